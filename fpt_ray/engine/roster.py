"""Which trial is on which engine, and where the next one goes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Moving costs the loading of a trial's state, so that a slightly emptier engine does not attract.
_MUCH_MORE = 1.5


@dataclass(slots=True)
class _Guest:
    group: str
    engine: str | None
    asked_at: float
    deaths: int = 0


class Roster:
    """Balances trials over engines, those that can share a pack on the same one."""

    def __init__(self) -> None:
        self._guests: dict[str, _Guest] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, trial_id: str, group: str, now: float) -> None:
        """Note that a trial wants an engine, whether or not it has one.

        Args:
            trial_id: the trial.
            group: trials of one group may share a pack.
            now: monotonic seconds.
        """
        guest = self._guests.setdefault(trial_id, _Guest(group, None, now))
        guest.asked_at = now

    def place(self, trial_id: str, engines: Sequence[str], avoid: str | None = None) -> str:
        """Choose the engine for a trial that has entered.

        It stays where it is, unless another engine is much emptier, which it then moves to. A trial
        that is new goes to an engine that has less than its fair share; if it can, to one that has
        trials of its group.

        Args:
            trial_id: the trial.
            engines: names of the engines that are ready, one at least.
            avoid: an engine that the trial could not reach; chosen only where there is no other.
        """
        guest = self._guests[trial_id]
        others = [name for name in engines if name != avoid] or list(engines)
        if guest.engine not in others:
            guest.engine = None
            guest.engine = self._choose(guest.group, others)
            return guest.engine
        emptiest = min(others, key=self.load)
        if self.load(guest.engine) > _MUCH_MORE * self.load(emptiest) + 1:
            guest.engine = emptiest
        return guest.engine

    def _choose(self, group: str, engines: Sequence[str]) -> str:
        loads = {name: self.load(name) for name in engines}
        share = -(-(sum(loads.values()) + 1) // len(engines))
        below = [name for name in engines if loads[name] < share]
        akin = [name for name in below if group in self.groups(name)]
        return min(akin or below, key=lambda name: loads[name])

    def release(self, trial_id: str) -> None:
        """Forget a trial."""
        self._guests.pop(trial_id, None)

    def note_death(self, trial_id: str) -> int:
        """Count that an engine died under a trial; return how many did without progress."""
        self._guests[trial_id].deaths += 1
        return self._guests[trial_id].deaths

    def note_progress(self, trial_id: str) -> None:
        """Note that a trial was evaluated on the engine it has."""
        self._guests[trial_id].deaths = 0

    def forget_silent(self, held: Collection[str], before: float) -> None:
        """Forget trials that no engine holds and that have not asked for long: nobody owns them.

        Args:
            held: trials that engines hold.
            before: monotonic seconds; whoever asked earlier has been silent for too long.
        """
        silent = [
            trial_id
            for trial_id, guest in self._guests.items()
            if trial_id not in held and guest.engine is not None and guest.asked_at < before
        ]
        for trial_id in silent:
            del self._guests[trial_id]

    def load(self, engine: str) -> int:
        """Count the trials on an engine."""
        return sum(guest.engine == engine for guest in self._guests.values())

    def groups(self, engine: str) -> set[str]:
        """Name the groups of the trials on an engine."""
        return {guest.group for guest in self._guests.values() if guest.engine == engine}
