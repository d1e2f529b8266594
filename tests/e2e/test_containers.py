"""What docker/ runs in containers, run here: the same commands, cluster and storage."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fpt_ray.records import SweepRecord, load_sweep_record
from fpt_ray.storage import RunDirectory
from tests.containers.files import DOCKER, KUBERAY, rayjob_of, read_yaml, render
from tests.e2e.clusters import Cluster, running_cluster
from tests.e2e.conftest import ROOT, Workplace, assert_every_evaluation_once, wait_until
from tests.object_store import ObjectStore

# Where this is set, sweeps/cluster.yaml is trained itself, and not a small sweep in its place.
WHOLE = os.environ.get("FPT_RAY_WHOLE_SWEEP") == "1"
LONG_S = 3600.0


@dataclass(frozen=True)
class Bucket:
    """Where a sweep's results lie: a part of a bucket."""

    storage: str

    def run(self, name: str) -> RunDirectory:
        return RunDirectory.below(self.storage, name)

    def record(self, name: str) -> SweepRecord:
        return load_sweep_record(self.run(name))

    def logs(self, name: str) -> dict[str, bytes]:
        run = self.run(name)
        found = {trial: run.read_bytes(run.log_of(trial)) for trial in run.directories(run.TRIALS)}
        return {trial: log for trial, log in found.items() if log is not None}

    def num_evaluations(self, name: str) -> int:
        return sum(len(log.splitlines()) for log in self.logs(name).values())


@pytest.fixture
def bucket(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Bucket:
    """A place in the store, for this process and those that it starts."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://{object_store.bucket}/{request.node.name}")


# The entrypoint of the RayJob, as compose.yaml submits it, on a head without CPUs and two workers


@pytest.fixture
def image(workplace: Workplace) -> Path:
    """A folder that is to jobs what the image's WORKDIR is."""
    home = workplace.folder / "home"
    (home / "sweeps").mkdir(parents=True)
    shutil.copy(DOCKER / "submit.py", home)
    if WHOLE:
        shutil.copy(ROOT / "sweeps" / "cluster.yaml", home / "sweeps")
    else:
        small = workplace.write(name="cluster", max_steps=60).read_text()
        (home / "sweeps" / "cluster.yaml").write_text(small + "data: {mode: streaming}\n")
    return home


@pytest.fixture
def cluster(workplace: Workplace, bucket: Bucket, image: Path) -> Iterator[Cluster]:
    environment = {**workplace.environment, "FPT_RAY_STORAGE": bucket.storage}
    with running_cluster(environment, cwd=image, num_workers=2) as cluster:
        yield cluster


def start_service(cluster: Cluster, image: Path) -> subprocess.Popen[str]:
    """Start the command of compose.yaml's service that submits the sweep."""
    command = shlex.split(read_yaml(DOCKER / "compose.yaml")["services"]["sweep"]["command"])
    entrypoint = rayjob_of(render(KUBERAY / "overlays" / "cpu"))["spec"]["entrypoint"]
    assert shlex.join(command[2:]) == entrypoint
    return subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=image,
        env={**cluster.environment, "RAY_API_SERVER_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.long
@pytest.mark.timeout(2 * LONG_S)
def test_whatever_is_killed_the_entrypoint_goes_on(
    cluster: Cluster, bucket: Bucket, image: Path
) -> None:
    submitter = start_service(cluster, image)
    wait_until(lambda: bucket.num_evaluations("cluster") >= 4, LONG_S)
    submitter.kill()
    output, _ = submitter.communicate()
    assert "submitted raysubmit_" in output

    # The sweep went on without who submitted it, and is followed.
    again = start_service(cluster, image)
    wait_until(lambda: bucket.num_evaluations("cluster") >= 8, LONG_S)
    lease = bucket.run("cluster").read_json(RunDirectory.LEASE)
    os.kill(lease["pid"], signal.SIGKILL)
    output, _ = again.communicate(timeout=LONG_S)
    assert again.returncode == 1, output
    assert "which runs already" in output
    assert ": FAILED" in output
    logs = bucket.logs("cluster")

    # The driver is dead: the same command submits a new one, which goes on from the log.
    third = start_service(cluster, image)
    output, _ = third.communicate(timeout=LONG_S)
    assert third.returncode == 0, output
    assert "submitted raysubmit_" in output
    assert f"results in {bucket.run('cluster').uri}" in output
    assert ": SUCCEEDED" in output
    assert all(bucket.logs("cluster")[trial].startswith(log) for trial, log in logs.items())
    assert_every_evaluation_once(bucket.record("cluster"), every=25 if WHOLE else 10)
    assert bucket.run("cluster").exists("report/summary.md")
    assert bucket.run("cluster").entries("report/figures") != []


# Storage in a bucket, without a cluster


def test_a_sweep_in_a_bucket_is_killed_and_goes_on(workplace: Workplace, bucket: Bucket) -> None:
    command = [workplace.write(max_steps=60), "--storage", bucket.storage]
    driver = workplace.start(*command)
    wait_until(lambda: bucket.num_evaluations("demo") >= 4)
    driver.kill()
    driver.wait()
    logs = bucket.logs("demo")

    shown = workplace.run(*command)
    assert f"report: {bucket.storage}/demo/report/summary.md" in shown.stderr
    assert all(bucket.logs("demo")[trial].startswith(log) for trial, log in logs.items())
    assert_every_evaluation_once(bucket.record("demo"))
    assert not bucket.run("demo").exists(RunDirectory.LEASE)
    again = workplace.run(*command)
    assert "is complete: nothing is left to train" in again.stderr
    assert workplace.command("report", f"{bucket.storage}/demo").stdout == again.stdout


def test_a_missing_bucket_is_told_before_anything_starts(
    workplace: Workplace, bucket: Bucket
) -> None:
    refused = workplace.run(workplace.write(), "--storage", "s3://nowhere/runs", code=1)
    assert refused.stderr == (
        "error: s3://nowhere/runs/demo: there is no bucket nowhere\n"
        "  fix: create it, correct its name, or give another place with --storage\n"
    )


def test_wrong_keys_are_told_before_anything_starts(
    workplace: Workplace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = workplace.run(workplace.write(), "--storage", bucket.storage, code=1)
    assert f"error: {bucket.storage}/demo: cannot be read or written: " in refused.stderr
    assert "fix: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: they must" in refused.stderr
    assert "checking" not in refused.stderr
    assert "Traceback" not in refused.stderr
