"""Whole sweeps on clusters of several machines and GPUs, all on this one, with real engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.e2e.conftest import Workplace, assert_every_evaluation_once, wait_until

# What a pool does with machines and GPUs, tests/integration has with engines that train nothing.
pytestmark = pytest.mark.long
RATES = [5e-4, 1e-3, 3e-3]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    head = {"num_cpus": 1, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=started.address, logging_level="ERROR", log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


def engines() -> list[dict[str, Any]]:
    """Ask the pool of the sweep that runs on the cluster; nothing before it has begun."""
    named = ray.util.list_named_actors(all_namespaces=True)
    pools = [each for each in named if each["name"].startswith("fpt_ray-pool-")]
    if not pools:
        return []
    try:
        pool: Any = ray.get_actor(**pools[0])
        return list(ray.get(pool.status.remote(), timeout=30)["engines"])
    except (ValueError, ray.exceptions.RayError):
        return []


def loads() -> list[int]:
    return sorted(engine["trials"] for engine in engines())


def assert_complete(workplace: Workplace, num_steps: int) -> None:
    record = workplace.record()
    assert len(record.trials) == 10
    assert {trial.status for trial in record.trials} == {"finished"}
    assert {trial.steps for trial in record.trials} == {num_steps}
    assert_every_evaluation_once(record)


def test_machines_come_and_go_and_every_trial_is_trained_to_its_end(
    workplace: Workplace, cluster: Cluster
) -> None:
    leaving, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
    # Long enough to be still training when machines that were added have started their engines.
    file = workplace.write(max_steps=1000, rates=RATES, resources="{device: cpu, pack: 2}")
    driver = workplace.start(file, "--address", cluster.address)
    wait_until(lambda: loads() == [2, 2, 2])
    nodes = {engine["node"] for engine in engines()}
    assert len(nodes) == 3

    added = cluster.add_node(num_cpus=1)
    wait_until(lambda: len(loads()) == 4 and loads()[0] > 0)
    assert {engine["node"] for engine in engines()} == {*nodes, added.node_id}

    cluster.remove_node(leaving, allow_graceful=False)
    wait_until(lambda: leaving.node_id not in {engine["node"] for engine in engines()})
    stdout, stderr = driver.communicate(timeout=400)
    assert driver.returncode == 0, stdout + stderr
    assert_complete(workplace, 1000)


def test_every_gpu_has_an_engine_and_its_share_of_the_trials(
    workplace: Workplace, cluster: Cluster
) -> None:
    cluster.add_node(num_cpus=2, num_gpus=4)
    file = workplace.write(max_steps=500, rates=RATES, resources="{device: auto, pack: 2}")
    driver = workplace.start(file, "--address", cluster.address)
    wait_until(lambda: loads() == [1, 1, 2, 2])
    stdout, stderr = driver.communicate(timeout=400)
    assert driver.returncode == 0, stdout + stderr
    # Ray believes in these GPUs; torch sees none.
    assert "torch sees no GPU where Ray gave one" in stderr
    assert_complete(workplace, 500)
