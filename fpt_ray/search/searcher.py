"""The searcher that Ray Tune sees: arms in turn, each with a search of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from fpt_ray.records import TrialRecord
from fpt_ray.search.arm import ArmSearch
from fpt_ray.search.ledger import Ledger


class ArmSearcher(Searcher):
    """Hands Tune the next trial of the arm that has been handed out least.

    Args:
        arms: the arms' searches, in the sweep's order.
        ledger: takes every trial before Tune hears of it.
        max_live: tells how many trials may run or wait now; one more than run keeps a device busy,
            and fewer waiting means better informed proposals.
        shared: what every trial's configuration holds besides the trial itself.
    """

    def __init__(
        self,
        arms: Sequence[ArmSearch],
        ledger: Ledger,
        max_live: Callable[[], int],
        shared: dict[str, Any],
    ) -> None:
        super().__init__()
        self._arms = list(arms)
        self._ledger = ledger
        self._max_live = max_live
        self._shared = shared
        self._handed_out: Counter[str] = Counter()
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Name the next trial.

        Args:
            trial_id: Tune's own name for the trial; ours outlives the driver.

        Returns:
            Its configuration, None to wait, or ``Searcher.FINISHED`` when every arm is done.
        """
        if self._num_live >= self._max_live():
            return None
        for arm in sorted(self._arms, key=lambda a: self._handed_out[a.name]):
            trial = arm.next_trial()
            if trial is not None:
                return self._hand_out(arm, trial)
        return Searcher.FINISHED if all(arm.done for arm in self._arms) else None

    @property
    def _num_live(self) -> int:
        self._live = {t for t in self._live if self._ledger.trials[t].status == "running"}
        return len(self._live)

    def _hand_out(self, arm: ArmSearch, trial: TrialRecord) -> dict[str, Any]:
        self._ledger.suggest(trial)
        self._handed_out[arm.name] += 1
        self._live.add(trial.trial_id)
        described = {
            name: getattr(trial, name) for name in ("trial_id", "stage", "arm", "seed", "settings")
        }
        return {"trial": described, **self._shared}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: results reach the arms through the log."""

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as an empty shell: Tune pickles it for `Tuner.restore`, which is never used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the run directory is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the run directory is the memory."""
