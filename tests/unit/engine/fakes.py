"""Trials, packs and sessions that only count, and a clock that stands still until it is moved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from fpt_ray.engine.loop import EngineLoop, Tools
from fpt_ray.engine.sizing import Limits, Size
from fpt_ray.errors import TrialError
from fpt_ray.training import Evaluation, TestResult

PATIENCE_S = 60.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class FakeTrial:
    """A trial that counts its steps."""

    name: str
    key: str
    max_steps: int
    step: int = 0
    diverges_at: int | None = None

    @property
    def finished(self) -> bool:
        return self.step >= self.max_steps or self.has_diverged

    @property
    def has_diverged(self) -> bool:
        return self.diverges_at is not None and self.step >= self.diverges_at


@dataclass(eq=False)
class World:
    """What happens in an engine, and what shall go wrong there.

    ``on_train``, ``on_evaluate`` and ``on_test`` are called with the names of a pack before each
    step, evaluation and test; they may raise or wait. ``accuracy`` gives a trial's measure.
    """

    on_train: Callable[[list[str]], None] = lambda names: None
    on_evaluate: Callable[[list[str]], None] = lambda names: None
    on_test: Callable[[list[str]], None] = lambda names: None
    on_open: Callable[[str], None] = lambda name: None
    on_save: Callable[[str], None] = lambda name: None
    accuracy: Callable[[str], float] = lambda name: 0.5
    saved: dict[str, int] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)
    trials: dict[str, FakeTrial] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    turns: list[tuple[list[str], int]] = field(default_factory=list)
    evaluated: list[list[str]] = field(default_factory=list)
    tested: list[list[str]] = field(default_factory=list)

    def companies(self) -> list[list[str]]:
        """List the packs that made steps, without repetitions that follow each other."""
        kept: list[list[str]] = []
        for names, steps in self.turns:
            if steps and (not kept or kept[-1] != names):
                kept.append(names)
        return kept


class FakePack:
    """A pack that moves its trials on."""

    def __init__(self, world: World) -> None:
        self._world = world

    def train(
        self,
        trials: Sequence[FakeTrial],
        num_steps: int,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> int:
        names = [trial.name for trial in trials]
        assert len({trial.key for trial in trials}) == 1
        made = 0
        try:
            while made < num_steps:
                self._world.on_train(names)
                for trial in trials:
                    trial.step += 1
                made += 1
                if any(trial.has_diverged for trial in trials) or interrupted():
                    break
        finally:
            self._world.turns.append((names, made))
        return made

    def evaluate(self, trials: Sequence[FakeTrial]) -> list[Evaluation]:
        names = [trial.name for trial in trials]
        self._world.on_evaluate(names)
        self._world.evaluated.append(names)
        return [self._evaluation(trial, len(names)) for trial in trials]

    def test(self, trials: Sequence[FakeTrial]) -> list[TestResult]:
        names = [trial.name for trial in trials]
        self._world.on_test(names)
        self._world.tested.append(names)
        return [TestResult(0.5, self._world.accuracy(name), 16, 16) for name in names]

    def rehearse(self, trial: FakeTrial, num_copies: int) -> float:
        return float(num_copies)

    def _evaluation(self, trial: FakeTrial, size: int) -> Evaluation:
        if trial.has_diverged:
            return Evaluation(trial.step, None, None, None, 0.0, 0.0, True, "it exploded")
        accuracy = self._world.accuracy(trial.name)
        return Evaluation(trial.step, 1.0, 1.0 - accuracy, accuracy, 0.0, 0.0, pack=size)


class FakeSession:
    """A session whose run directory is the world's ``saved``."""

    def __init__(self, world: World, order: Mapping[str, Any]) -> None:
        self._world = world
        self._order = order
        self._name: str = order["trial_id"]
        self._logged = world.logged.get(self._name, 0)
        if self._logged >= order["max_steps"]:
            raise TrialError("nothing is left to train")
        saved = world.saved.get(self._name, 0)
        self.trial = FakeTrial(
            self._name, order["key"], order["max_steps"], saved, order["diverges_at"]
        )
        self._evaluated_at = saved
        world.trials[self._name] = self.trial

    @property
    def due_step(self) -> int:
        every = self._order["every"]
        return min((self.trial.step // every + 1) * every, self.trial.max_steps)

    @property
    def at_rest(self) -> bool:
        return self.trial.step == self._evaluated_at

    def unreported(self) -> Evaluation | None:
        if self.trial.step <= self._logged:
            return None
        return Evaluation(self.trial.step, 1.0, 0.5, 0.5, 0.0, 0.0)

    def is_new(self, evaluation: Evaluation) -> bool:
        return evaluation.step > self._logged

    def is_last(self, evaluation: Evaluation) -> bool:
        return evaluation.diverged or evaluation.step >= self.trial.max_steps

    def needs_test(self, evaluation: Evaluation) -> bool:
        full = evaluation.step >= self.trial.max_steps and not evaluation.diverged
        return self._order["stage"] == "final" and full

    def save(self, evaluation: Evaluation) -> None:
        self._world.on_save(self._name)
        self._evaluated_at = evaluation.step
        if not evaluation.diverged:
            self._world.saved[self._name] = evaluation.step

    def verify(self, evaluation: Evaluation) -> None:
        """Nothing is frozen."""

    def report(self, evaluation: Evaluation, test: TestResult | None) -> dict[str, Any]:
        self._logged = self._world.logged[self._name] = evaluation.step
        tested = {} if test is None else {"test_accuracy": test.accuracy}
        return {
            "step": evaluation.step,
            "diverged": evaluation.diverged,
            "pack": evaluation.pack,
            **tested,
        }

    def close(self) -> None:
        self._world.closed.append(self._name)


class Bench:
    """A loop on fakes."""

    def __init__(
        self,
        pack: Literal["auto"] | int = 8,
        measure: Callable[[Any, Any], Size] = lambda pack, trial: Size(8),
        time_flies: bool = False,
    ) -> None:
        self.world = World()
        self.clock = Clock()
        self.broken = threading.Event()
        self.limits = Limits(pack, measure)
        self.loop = EngineLoop(
            Tools(
                open_session=self._open,
                make_pack=lambda trial: FakePack(self.world),
                limits=self.limits,
                device=torch.device("cpu"),
                metric="validation_accuracy",
                on_broken=self.broken.set,
                clock=time.monotonic if time_flies else self.clock,
            )
        )

    def ask(self, name: str, **order: Any) -> Future[dict[str, Any]]:
        """Ask for a trial's next result: 5 steps to an evaluation, 20 in all."""
        usual = {"key": "k", "stage": "tune", "session": "s", "every": 5, "max_steps": 20}
        return self.loop.submit(usual | {"trial_id": name, "diverges_at": None} | order)

    def ask_together(self, *names: str, **order: Any) -> dict[str, Future[dict[str, Any]]]:
        """Ask for several trials while the loop cannot begin with the first."""
        with self.loop._members._changed:
            return {name: self.ask(name, **order) for name in names}

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time, and have the loop look at each."""
        for _ in range(int(seconds)):
            self.clock.now += 1.0
            self.loop._members.age()
        self.loop._members.wake()

    def _open(self, order: Mapping[str, Any]) -> FakeSession:
        self.world.on_open(order["trial_id"])
        self.world.opened.append(order["trial_id"])
        return FakeSession(self.world, order)


class Gate:
    """Holds a pack at a step until the test lets it go on.

    Args:
        names: whom to hold; None for any pack.
        after: steps of it that pass first.
    """

    def __init__(self, names: list[str] | None = None, after: int = 0) -> None:
        self._names = names
        self._left = after
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, names: list[str]) -> None:
        if self._names is not None and names != self._names:
            return
        self._left -= 1
        if self._left < 0:
            self._reached.set()
            assert self._opened.wait(PATIENCE_S)

    def wait(self) -> None:
        """Wait until a pack stands at the gate."""
        assert self._reached.wait(PATIENCE_S)

    def open(self) -> None:
        """Let it go on, now and later."""
        self._opened.set()


def results(requests: Mapping[str, Future[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Wait for results."""
    return {name: request.result(PATIENCE_S) for name, request in requests.items()}
