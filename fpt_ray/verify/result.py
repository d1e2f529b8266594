"""What ``verify-pack`` found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from fpt_ray.verify.differences import MEASURES, Difference, Differences, limit
from fpt_ray.verify.sample import Sample

LENIENCE = 10
"""A difference is no fault if rounding alone takes the trial a tenth as far."""

MEANING = (
    "Losses are compared step by step, in training and validation, relative to the loss; gradients"
    " (before clipping) and trained parameters by the norm of the difference, relative to the norm"
    " of the gradients and of how far the parameters moved. Rounding grows with the steps: what is"
    " beyond a limit is a fault unless one unit of rounding before each step takes the trial alone"
    f" at least a {LENIENCE}th as far from itself."
)
LAST = list(MEASURES)[-1]


@dataclass(frozen=True, slots=True)
class Checked:
    """One trial, in a pack and alone.

    Attributes:
        sample: the trial.
        found: how far the two are apart.
        control: how far the trial alone is from itself where rounding moves it; None where it was
            within its limits, so that nobody asked.
    """

    sample: Sample
    found: Differences
    control: Differences | None = None

    def faults(self, tolerance: float) -> list[str]:
        """Name the measures that are beyond their limits, and not by rounding alone."""
        beyond = self.found.beyond(tolerance)
        control = self.control
        if control is None:
            return beyond
        return [n for n in beyond if _value(self.found, n) > LENIENCE * _value(control, n)]

    def to_json(self, tolerance: float) -> dict[str, Any]:
        """Write it as JSON data."""
        return {
            "arm": self.sample.arm,
            "values": dict(self.sample.values),
            "stage": self.sample.stage,
            "seed": self.sample.seed,
            "differences": self.found.to_json(),
            "rounding_alone": self.control and self.control.to_json(),
            "faults": self.faults(tolerance),
        }


@dataclass(frozen=True, slots=True)
class CheckedPack:
    """The trials of one pack."""

    trials: tuple[Checked, ...]

    @property
    def size(self) -> str:
        """Say how many trials it has."""
        return "a single trial" if len(self.trials) == 1 else f"{len(self.trials)} trials"

    def worst(self, measure: str) -> tuple[Difference, Checked]:
        """Find the largest difference of a measure, and whose it is."""
        trial = max(self.trials, key=lambda each: _value(each.found, measure))
        return trial.found.of(measure), trial


@dataclass(frozen=True, slots=True)
class Verification:
    """Every pack of the sampled trials, compared with its trials alone.

    Attributes:
        name: of the sweep.
        num_steps: that each trial made.
        tolerance: limit of the losses and of the first gradients.
        device: where it was computed.
        packs: what was found.
        notes: what differs from the sweep as it would run.
    """

    name: str
    num_steps: int
    tolerance: float
    device: str
    packs: tuple[CheckedPack, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether no trial has a fault."""
        return not any(trial.faults(self.tolerance) for trial in self._trials)

    def to_json(self) -> dict[str, Any]:
        """Write what was found as JSON data."""
        return {
            "name": self.name,
            "steps": self.num_steps,
            "tolerance": self.tolerance,
            "limits": {name: limit(name, self.tolerance) for name in MEASURES},
            "device": self.device,
            "notes": list(self.notes),
            "equal": self.equal,
            "packs": [
                {
                    "trials": [trial.to_json(self.tolerance) for trial in pack.trials],
                    "largest": {
                        name: {**found.to_json(), "trial": trial.sample.name}
                        for name, (found, trial) in ((n, pack.worst(n)) for n in MEASURES)
                    },
                }
                for pack in self.packs
            ],
        }

    def table(self) -> RenderableType:
        """Lay it out for a terminal."""
        table = Table(
            title=f"{self.name}: {len(self._trials)} trials in {len(self.packs)} packs, and each"
            f" alone, {self.num_steps} steps on {self.device}"
        )
        table.add_column("pack")
        table.add_column("compared")
        for column in ("largest", "limit"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("where", overflow="fold")
        table.add_column("trial")
        for number, pack in enumerate(self.packs, start=1):
            for index, name in enumerate(MEASURES):
                title = f"{number}: {pack.size}" if index == 0 else ""
                table.add_row(title, *self._cells(pack, name), end_section=name == LAST)
        return Group(table, *map(escape, [*self.notes, *self._remarks(), MEANING, self._verdict()]))

    def _cells(self, pack: CheckedPack, name: str) -> list[str]:
        found, trial = pack.worst(name)
        whose = trial.sample.name if found.value else ""
        where = found.where if found.value else "equal to the bit"
        limits = f"{limit(name, self.tolerance):.0e}"
        return [name.replace("_", " "), f"{found.value:.1e}", limits, escape(where), escape(whose)]

    @property
    def _trials(self) -> list[Checked]:
        return [trial for pack in self.packs for trial in pack.trials]

    def _remarks(self) -> Iterator[str]:
        """Tell of each trial that was beyond a limit, and how far rounding alone takes it."""
        for trial in self._trials:
            faults = trial.faults(self.tolerance)
            for name in trial.found.beyond(self.tolerance):
                verdict = "a fault" if name in faults else "no fault"
                found = trial.found.of(name)
                alone = trial.control.of(name).value if trial.control else 0.0
                yield (
                    f"{trial.sample.name}: {name.replace('_', ' ')} {found.value:.1e} apart"
                    f" ({found.where}); rounding alone takes the trial {alone:.1e} from itself:"
                    f" {verdict}."
                )

    def _verdict(self) -> str:
        num_faulty = sum(bool(trial.faults(self.tolerance)) for trial in self._trials)
        if num_faulty:
            return (
                f"NOT EQUAL: {num_faulty} of {len(self._trials)} trials train otherwise in packs."
            )
        return "Equal: trials in packs train as they do alone."


def _value(differences: Differences, measure: str) -> float:
    return differences.of(measure).value
