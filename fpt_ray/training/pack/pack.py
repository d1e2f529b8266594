"""Several trials that advance together on one device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from time import perf_counter

from torch import Tensor

from fpt_ray.seeding import derive_seed
from fpt_ray.training.pack.adam import PackAdam, make_adam
from fpt_ray.training.pack.bench import Bench
from fpt_ray.training.pack.compute import Computation, gather
from fpt_ray.training.pack.feeding import PackFeed
from fpt_ray.training.pack.rehearsal import rehearse
from fpt_ray.training.pack.rows import Rows
from fpt_ray.training.pack.scoring import score_pack
from fpt_ray.training.pack.trial import PackedTrial
from fpt_ray.training.pack.watch import PackWatch
from fpt_ray.training.results import Evaluation, Slope, TestResult
from fpt_ray.training.steps import own_randomness


def never() -> bool:
    """Let training go on."""
    return False


class Pack:
    """Trials of one key that train together through one copy of their frozen weights.

    Which trials they are is said at every call, so that they join and leave as they like; what
    they compute does not depend on it, except that dropout draws other masks in other company.
    A pack of one computes what ``Trainer`` does.

    Args:
        trial: any one of its key; it gives the shapes, and is not held.
    """

    def __init__(self, trial: PackedTrial) -> None:
        self.key = trial.key
        self._bench = Bench(trial)
        self._feed = PackFeed(trial.parts.device)

    def train(
        self,
        trials: Sequence[PackedTrial],
        num_steps: int,
        interrupted: Callable[[], bool] = never,
    ) -> int:
        """Advance all trials by the same number of steps, each from its own step on.

        Every step is whole: an error leaves all trials at the last step that all have made.

        Args:
            trials: different ones, of the pack's key, that have not diverged.
            num_steps: updates to make; fewer are made where one trial's ``max_steps`` ends before.
            interrupted: asked after each step; training ends early where it says so.

        Returns:
            Steps made. They may be fewer than asked for also because a trial diverged: that is
            noted in it, and it must leave.

        Raises:
            ValueError: a trial does not belong here, or has diverged before.
            TrialFault: one trial's data cannot be had.
        """
        self._check(trials)
        for trial in trials:
            trial.require_open()
        num_steps = min((trial.remaining(num_steps) for trial in trials), default=0)
        if num_steps == 0:
            return 0
        started = perf_counter()
        computation, rows = self._bench.seat(trials)
        watch = PackWatch(num_steps, len(trials), self._bench.device)
        adam = make_adam(rows, trials, num_steps)
        try:
            with closing(self._backward(computation, rows, trials, num_steps)) as passes:
                for losses, norms in passes:
                    faulty = watch.record(losses, norms)
                    adam.update(norms, faulty)
                    if faulty or interrupted():
                        break
        finally:
            watch.finish()
            self._note(trials, watch, adam, perf_counter() - started)
        return watch.num_steps

    def evaluate(self, trials: Sequence[PackedTrial]) -> list[Evaluation]:
        """Evaluate the whole validation split; a new interval begins with it.

        Args:
            trials: of the pack's key; those that have diverged are not computed.

        Raises:
            ValueError: a trial does not belong here.
            DataError: the split cannot be had.
        """
        self._check(trials)
        started = perf_counter()
        sound = [trial for trial in trials if trial.divergence is None]
        results: dict[int, TestResult] = {}
        if sound:
            with self._bench.lent(sound) as computation:
                scores = score_pack(computation, sound, "validation")
            results = {id(trial): score for trial, score in zip(sound, scores, strict=True)}
        elapsed_s = perf_counter() - started
        for trial in sound:
            trial.spend(evaluate_s=elapsed_s / len(sound))
        return [trial.note_result(results.get(id(trial))) for trial in trials]

    def test(self, trials: Sequence[PackedTrial]) -> list[TestResult]:
        """Evaluate each trial's best parameters on the test split.

        Raises:
            ValueError: a trial has no best parameters, or does not belong here.
            DataError: the split cannot be had.
        """
        self._check(trials)
        best = [trial.require_best() for trial in trials]
        if not trials:
            return []
        with self._bench.lent(trials, best) as computation:
            return score_pack(computation, trials, "test")

    def slopes(self, trials: Sequence[PackedTrial]) -> list[Slope]:
        """Compute each trial's loss and gradients at the step that comes next; nothing changes.

        Raises:
            ValueError: a trial does not belong here, or has no step left.
            TrialFault: one trial's data cannot be had.
        """
        self._check(trials)
        if not all(trial.remaining(1) for trial in trials):
            raise ValueError("a trial has no step left")
        computation, rows = self._bench.seat(trials)
        with closing(self._backward(computation, rows, trials, 1)) as passes:
            losses, _ = next(passes)
            return [
                Slope(loss, rows.gradients.by_name(index))
                for index, loss in enumerate(losses.tolist())
            ]

    def rehearse(self, trial: PackedTrial, num_copies: int) -> float:
        """Measure the seconds of one step with copies of a trial; nothing changes.

        Memory is needed as in a pack of that many trials, kept activations aside.

        Raises:
            torch.OutOfMemoryError: there is not enough of it.
            ValueError: the trial does not belong here.
        """
        self._check([trial])
        return rehearse(self._bench, trial, num_copies)

    def _backward(
        self,
        computation: Computation,
        rows: Rows,
        trials: Sequence[PackedTrial],
        num_steps: int,
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Compute the gradients of one step after the other; yield losses and norms of each."""
        computation.model.train()
        stores = [trial.parts.stores.train for trial in trials]
        feeding = closing(self._feed.run(trials, num_steps))
        with own_randomness(self._bench.device) as reseed, feeding as batches:
            for index, batch in enumerate(batches):
                reseed(_dropout_seed(trials, index))
                yield computation.backward(rows, batch, gather(batch, stores))

    def _note(
        self, trials: Sequence[PackedTrial], watch: PackWatch, adam: PackAdam, elapsed_s: float
    ) -> None:
        """Tell the trials of the steps that were made."""
        self._bench.weights.may_have_changed()
        for index, trial in enumerate(trials):
            trial.updates = adam.counts[index]
            trial.note_steps(watch.losses[index], watch.divergences[index], len(trials))
            trial.spend(train_s=elapsed_s / len(trials))

    def _check(self, trials: Sequence[PackedTrial]) -> None:
        if any(trial.key != self.key for trial in trials):
            raise ValueError("a trial of another key cannot be in this pack")
        if len(set(map(id, trials))) < len(trials):
            raise ValueError("a trial cannot be in a pack twice")


def _dropout_seed(trials: Sequence[PackedTrial], index: int) -> int:
    """Derive what a step's masks are drawn from; a trial alone has those of ``Trainer``."""
    first, *others = [(trial.seed, trial.step + index) for trial in trials]
    return derive_seed(first[0], "dropout", first[1], *(n for other in others for n in other))
