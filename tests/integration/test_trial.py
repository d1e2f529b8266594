"""Thin trials: processes without torch that have engines train for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from fpt_ray import trial
from fpt_ray.errors import TrialError
from fpt_ray.trial import TrialTrainable
from tests.integration.pool_world import Sweep, described, init


@pytest.fixture(scope="module", autouse=True)
def one_machine() -> Iterator[None]:
    init(num_cpus=1)
    yield
    ray.shutdown()


def test_a_trial_that_fails_raises_what_the_engine_raised(sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    with pytest.raises(TrialError, match=r"trial t: thirteen\n  fix: another number"):
        ray.get(one.start("t", batch_size=13), timeout=120)


def test_a_trial_that_ends_is_forgotten_by_engine_and_pool(sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    ray.get(one.start("t"), timeout=120)
    assert ray.get(one.trials["t"].reset.remote({"trial": described("u"), "pool": one.name}))
    assert [e["trials"] for e in one.engines()] == [0]
    assert ray.get(one.trials["t"].train.remote(), timeout=120)["step"] == 10
    assert [e["trials"] for e in one.engines()] == [1]


def test_a_thin_trial_loads_nothing_heavy(sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    assert not ray.get(one.start("t"), timeout=120)["has_torch"]
    loaded = ray.get(one.trials["t"].__ray_call__.remote(_heavy_modules))
    assert loaded == {"ray.tune"}


def _heavy_modules(_: object) -> set[str]:
    return {"torch", "transformers", "optuna", "ray.tune", "fpt_ray.training"} & set(sys.modules)


def test_a_thin_trial_asks_for_memory_alone_and_needs_no_more(sweep: Callable[..., Sweep]) -> None:
    request = TrialTrainable.default_resource_request({})
    assert request.bundles == [{"memory": trial.MEMORY_BYTES}]
    one = sweep()
    ray.get(one.start_all(2), timeout=120)
    for each in one.trials.values():
        assert ray.get(each.__ray_call__.remote(_private_bytes)) <= trial.MEMORY_BYTES


def _private_bytes(_: object) -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def test_a_thin_trial_says_that_it_lives_while_it_waits(sweep: Callable[..., Sweep]) -> None:
    one = sweep(seconds=trial.RENEW_EVERY_S * 1.5)
    ray.get(one.start("t"), timeout=120)
    assert one.renewed() == ["t"]
