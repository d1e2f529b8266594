"""What the loop asks of sessions, trials and packs: all that it needs to know of torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from fpt_ray.training import Evaluation, TestResult


class Trial(Protocol):
    """A trial that trains in packs."""

    @property
    def key(self) -> Hashable:
        """What separates packs: trials with equal keys may be in one."""
        ...

    @property
    def step(self) -> int:
        """Updates so far."""
        ...

    @property
    def finished(self) -> bool:
        """Whether all steps are made, or training diverged."""
        ...


class Pack(Protocol):
    """Trains trials of one key together; see ``fpt_ray.training.Pack``."""

    def train(
        self, trials: Sequence[Any], num_steps: int, interrupted: Callable[[], bool] = ...
    ) -> int:
        """Advance all by the same number of steps; return how many were made."""
        ...

    def evaluate(self, trials: Sequence[Any]) -> list[Evaluation]:
        """Measure the trials on validation."""
        ...

    def test(self, trials: Sequence[Any]) -> list[TestResult]:
        """Measure the best parameters of the trials on test."""
        ...

    def rehearse(self, trial: Any, num_copies: int) -> float:
        """Return the seconds of a step of so many copies of a trial, which changes nothing."""
        ...


class Session(Protocol):
    """A trial and its way to the run directory; see `fpt_ray.engine.session.TrialSession`."""

    @property
    def trial(self) -> Trial:
        """What is trained."""
        ...

    @property
    def due_step(self) -> int:
        """The step of the next evaluation."""
        ...

    @property
    def at_rest(self) -> bool:
        """Whether it could be opened again without training anything twice."""
        ...

    def unreported(self) -> Evaluation | None:
        """Return the evaluation that was saved but never reached the log."""
        ...

    def is_new(self, evaluation: Evaluation) -> bool:
        """Tell whether an evaluation is not in the log yet."""
        ...

    def is_last(self, evaluation: Evaluation) -> bool:
        """Tell whether nothing comes after an evaluation."""
        ...

    def needs_test(self, evaluation: Evaluation) -> bool:
        """Tell whether the test split is due with an evaluation."""
        ...

    def save(self, evaluation: Evaluation) -> None:
        """Write what the trial goes on from after an evaluation."""
        ...

    def verify(self, evaluation: Evaluation) -> None:
        """Prove that frozen weights are unchanged where an evaluation ends a trial."""
        ...

    def report(self, evaluation: Evaluation, test: TestResult | None) -> dict[str, Any]:
        """Describe an evaluation for the log, and count it as reported."""
        ...

    def close(self) -> None:
        """End what delivers the trial's data."""
        ...


OpenSession = Callable[[Mapping[str, Any]], Session]
"""Opens a trial as it was ordered."""
MakePack = Callable[[Any], Pack]
"""Makes the pack of a trial's key."""
