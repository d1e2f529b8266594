"""A sweep submitted to a Ray cluster with token authentication, stopped, and submitted again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.clusters import Cluster, running_cluster
from tests.e2e.conftest import Workplace, assert_every_evaluation_once, wait_until


@pytest.fixture
def cluster(workplace: Workplace) -> Iterator[Cluster]:
    with running_cluster(workplace.environment) as cluster:
        yield cluster


@pytest.mark.long
def test_a_submitted_sweep_is_stopped_and_submitted_again(
    workplace: Workplace, cluster: Cluster
) -> None:
    file = workplace.write(max_steps=200)
    storage = workplace.folder / "runs"
    sweep = ["--working-dir", str(workplace.folder), "--", "python", "-m", "fpt_ray.sweep"]
    sweep += [file.name]

    refused = cluster.job("submit", *sweep)
    output, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "a relative storage inside a Ray job would vanish" in output

    whole = [*sweep, "--storage", str(storage)]
    job = cluster.job("submit", "--submission-id", "first", *whole)
    wait_until(lambda: workplace.num_evaluations() >= 6)
    stop, _ = cluster.job("stop", "first").communicate(timeout=400)
    assert "stopped" in stop
    output, _ = job.communicate(timeout=400)
    assert "trials at a time on cpu" in output
    logs = workplace.logs()

    again = cluster.job("submit", "--submission-id", "second", *whole)
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert "tune 2/2" in output
    assert "report:" in output
    assert all(workplace.logs()[trial].startswith(log) for trial, log in logs.items())
    assert_every_evaluation_once(workplace.record())

    unauthorised = {k: v for k, v in cluster.environment.items() if k != "RAY_AUTH_TOKEN"}
    denied = Cluster(cluster.address, {**unauthorised, "RAY_AUTH_TOKEN": "wrong"}).job("list")
    output, _ = denied.communicate(timeout=400)
    assert denied.returncode != 0
    assert "401" in output or "uthenticat" in output
