"""Many owners that come, go, die and come again while packs fail at random: all trials end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fpt_ray.engine import grouping, loop, turn
from fpt_ray.errors import RunDirectoryError, TrialError
from tests.unit.engine.fakes import PATIENCE_S, Bench

NUM_TRIALS = 12
ERRORS = (
    (torch.OutOfMemoryError, "CUDA out of memory"),
    (ArithmeticError, "bad luck"),
    (RunDirectoryError, "no space left"),
)


class Mishaps:
    """Raises now and then, whoever calls; at most so often that the storm ends."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._left = 60

    def __call__(self, names: object) -> None:
        with self._lock:
            if self._left and self._random.random() < 0.1:
                self._left -= 1
                error, text = self._random.choice(ERRORS)
                raise error(text)


def own(bench: Bench, name: str, seed: int) -> list[int]:
    """Ask for a trial's results until it has ended, as owners do that live in unquiet times."""
    choices = random.Random(f"{seed} {name}")
    steps: list[int] = []
    session = 0
    while not steps or steps[-1] < 20:
        request = bench.ask(name, session=str(session), key=choices.choice(["one", "two"]))
        if choices.random() < 0.15:
            session += 1
            continue
        if choices.random() < 0.1:
            bench.loop.leave(name)
        try:
            steps.append(request.result(PATIENCE_S)["step"])
        except (TrialError, RunDirectoryError) as error:
            if "nothing is left" in str(error):
                break
            session += 1
    return steps


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pack", [1, 2, 8])
def test_every_trial_ends_whatever_happens(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, pack: int, seed: int
) -> None:
    monkeypatch.setattr(grouping, "ALIGN_S", 0.02)
    # Nothing is held, and collecting it would take most of the time.
    for module in (loop, turn):
        monkeypatch.setattr(module, "release_memory", lambda device: None)
    bench = make_bench(pack=pack, time_flies=True)
    world = bench.world
    for hook in ("on_train", "on_evaluate", "on_save", "on_open"):
        setattr(world, hook, Mishaps(seed))
    names = [f"t{index}" for index in range(NUM_TRIALS)]
    with ThreadPoolExecutor(NUM_TRIALS) as owners:
        found = list(owners.map(lambda name: own(bench, name, seed), names))
    for steps in found:
        assert steps == sorted(set(steps))
    assert world.logged == dict.fromkeys(names, 20)
    assert sorted(world.opened) == sorted(world.closed)
    assert bench.loop.status()["trials"] == []
    assert not bench.broken.is_set()
