"""Engines on devices and trials on engines, on real clusters of Ray; engines compute nothing."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from fpt_ray.errors import TrialError
from tests.integration.fake_engine import FakeEngine
from tests.integration.pool_world import Sweep, init, wait_until


@pytest.fixture(scope="class")
def four_gpus() -> Iterator[None]:
    init(num_cpus=2, num_gpus=4)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("four_gpus")
class TestOnFourGpus:
    def test_each_gpu_has_an_engine_and_trials_are_balanced(
        self, sweep: Callable[..., Sweep]
    ) -> None:
        one = sweep(kind="cuda", device="auto")
        wait_until(lambda: len(one.engines()) == 4)
        ray.get(one.start_all(8), timeout=120)
        assert [engine["trials"] for engine in one.engines()] == [2, 2, 2, 2]
        assert one.status()["capacity"] == 8
        results = one.advance_all()
        assert Counter(Counter(r["engine"] for r in results).values()) == {2: 4}
        assert {r["step"] for r in results} == {20}

    def test_no_more_devices_are_used_than_allowed(self, sweep: Callable[..., Sweep]) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=2, pack=1)
        ray.get(one.start_all(4), timeout=120)
        wait_until(lambda: len(one.engines()) == 2)
        status = one.status()
        assert (status["capacity"], status["num_engines"]) == (2, 2)
        assert not status["wants_more"]

    def test_an_engine_that_is_killed_is_replaced_and_no_trial_fails(
        self, sweep: Callable[..., Sweep]
    ) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=2, seconds=1.0)
        wait_until(lambda: len(one.engines()) == 2)
        pending = one.start_all(4)
        wait_until(lambda: sum(e["trials"] for e in one.engines()) == 4)
        victim = one.engines()[0]
        os.kill(victim["pid"], signal.SIGKILL)
        assert [r["step"] for r in ray.get(pending, timeout=120)] == [10] * 4
        wait_until(lambda: len(one.engines()) == 2)
        assert victim["name"] not in {e["name"] for e in one.engines()}
        assert [r["step"] for r in one.advance_all()] == [20] * 4

    def test_engines_that_die_again_and_again_fail_the_trial(
        self, sweep: Callable[..., Sweep]
    ) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=1, seconds=600.0, max_failures=1)
        pending = one.start("victim")
        killed: set[int] = set()
        for _ in range(2):
            wait_until(lambda: {e["pid"] for e in one.engines() if e["trials"]} - killed != set())
            killed.add(one.engines()[0]["pid"])
            os.kill(one.engines()[0]["pid"], signal.SIGKILL)
        with pytest.raises(TrialError, match="the engine died 2 times under this trial"):
            ray.get(pending, timeout=120)

    def test_trials_outlive_the_pool(self, sweep: Callable[..., Sweep]) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=1, seconds=0.5)
        ray.get(one.start_all(2), timeout=120)
        former = one.engines()[0]
        pending = [each.train.remote() for each in one.trials.values()]
        ray.kill(one.pool, no_restart=False)
        wait_until(lambda: one.engines_after_beginning_again({former["pid"]}) != [])
        assert [r["step"] for r in ray.get(pending, timeout=120)] == [20] * 2
        assert [engine["trials"] for engine in one.engines()] == [2]

    def test_an_engine_that_cannot_start_fails_trials_with_its_reason(
        self, sweep: Callable[..., Sweep]
    ) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=1, max_failures=0, broken=True)
        with pytest.raises(TrialError, match=r"no engine starts: .*this engine cannot start"):
            ray.get(one.start("t"), timeout=120)

    def test_engines_end_at_once_when_the_pool_is_closed(self, sweep: Callable[..., Sweep]) -> None:
        one = sweep(kind="cuda", device="auto", max_devices=2)
        ray.get(one.start_all(2), timeout=120)
        wait_until(lambda: len(one.engines()) == 2)
        pids = [e["pid"] for e in one.engines()]
        ray.get(one.pool.close.remote(), timeout=30)
        wait_until(lambda: not any(_lives(pid) for pid in pids), timeout_s=10)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def three_nodes() -> Iterator[Cluster]:
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_machines_come_and_go_while_trials_train(
    three_nodes: Cluster, sweep: Callable[..., Sweep]
) -> None:
    one = sweep(pack=1)
    wait_until(lambda: len(one.engines()) == 3)
    assert len({e["node"] for e in one.engines()}) == 3
    ray.get(one.start_all(4), timeout=120)
    assert sorted(e["trials"] for e in one.engines()) == [1, 1, 2]
    wait_until(lambda: one.status()["wants_more"])

    added = three_nodes.add_node(num_cpus=1)
    wait_until(lambda: len(one.engines()) == 4)
    one.advance_all()
    one.advance_all()
    assert [e["trials"] for e in one.engines()] == [1, 1, 1, 1]
    assert not one.status()["wants_more"]

    former = ray.get_runtime_context().get_node_id()
    three_nodes.remove_node(added, allow_graceful=False)
    wait_until(lambda: len(one.engines()) == 3)
    alive = {name: trial for name, trial in one.trials.items() if _answers(trial)}
    one.trials = alive
    steps = [r["step"] for r in one.advance_all()]
    assert len(steps) >= 3
    assert all(step == 40 for step in steps)
    assert former in {e["node"] for e in one.engines()}


def _answers(trial: Any) -> bool:
    try:
        ray.get(trial.get_current_ip_pid.remote(), timeout=60)
    except ray.exceptions.RayError:
        return False
    return True


@pytest.fixture
def three_cpus() -> Iterator[None]:
    init(num_cpus=3)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("three_cpus")
def test_an_engine_takes_what_other_work_leaves(sweep: Callable[..., Sweep]) -> None:
    other = ray.remote(FakeEngine).options(num_cpus=1).remote("", {"seconds": 0}, "", "", 1, 1)
    ray.get(other.status.remote())
    one = sweep()
    assert ray.get(one.start("t"), timeout=120)["threads"] == 2
