"""What a sweep will do, arm by arm, without training anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from fpt_ray.config import AshaScheduler, Sweep
from fpt_ray.training import Description, describe


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm: its parameters, and its budget.

    Attributes:
        name: the arm's name.
        description: parameters in all and trained, from a build without weights.
        tune_trials: trials of the search.
        final_trials: trials of the final stage.
        most_steps: steps if no trial is stopped early.
        least_steps: steps if the scheduler stops whatever it may at each rung, and all others go
            on.
    """

    name: str
    description: Description
    tune_trials: int
    final_trials: int
    most_steps: int
    least_steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep's arms and rungs."""

    name: str
    rungs: tuple[int, ...]
    max_steps: int
    arms: tuple[ArmPlan, ...]

    def to_json(self) -> dict[str, Any]:
        """Write the plan as JSON data; steps are optimizer steps."""
        return {
            "name": self.name,
            "rungs": list(self.rungs),
            "max_steps": self.max_steps,
            "arms": [
                {
                    "arm": arm.name,
                    "trained_parameters": arm.description.trained_parameters,
                    "total_parameters": arm.description.total_parameters,
                    "by_group": {
                        group: {"trained": trained, "total": total}
                        for group, (trained, total) in arm.description.by_group.items()
                    },
                    "tune_trials": arm.tune_trials,
                    "final_trials": arm.final_trials,
                    "least_steps": arm.least_steps,
                    "most_steps": arm.most_steps,
                }
                for arm in self.arms
            ],
        }

    def table(self) -> Table:
        """Lay the plan out for a terminal."""
        rungs = f"rungs at {', '.join(map(str, self.rungs))}" if self.rungs else "no early stopping"
        table = Table(title=f"{self.name}: {rungs}, full length {self.max_steps} steps")
        table.add_column("arm", no_wrap=True, min_width=max(len(arm.name) for arm in self.arms))
        for column in ("trained", "of all", "tune trials", "final trials"):
            table.add_column(column, justify="right")
        table.add_column("steps", justify="right", no_wrap=True)
        for arm in self.arms:
            trained, total = arm.description.trained_parameters, arm.description.total_parameters
            steps = f"{arm.least_steps:,} to {arm.most_steps:,}"
            table.add_row(
                escape(arm.name),
                f"{trained:,}",
                f"{trained / total:.3%}",
                str(arm.tune_trials),
                str(arm.final_trials),
                f"{arm.most_steps:,}" if arm.least_steps == arm.most_steps else steps,
            )
        return table


def plan_sweep(sweep: Sweep) -> Plan:
    """Plan a sweep.

    Raises:
        FptRayError: an arm cannot be built.
    """
    rungs = rungs_of(sweep)
    tune_trials = sweep.tune.num_trials if sweep.tune else 0
    max_steps, final = sweep.training.max_steps, sweep.final.seeds
    arms = tuple(
        ArmPlan(
            name=arm.name,
            description=describe(arm.settings),
            tune_trials=tune_trials,
            final_trials=final,
            most_steps=(tune_trials + final) * max_steps,
            least_steps=_least_steps(sweep, rungs) + final * max_steps,
        )
        for arm in sweep.arms
    )
    return Plan(sweep.name, rungs, max_steps, arms)


def rungs_of(sweep: Sweep) -> tuple[int, ...]:
    """List the steps at which ASHA may stop a trial, below full length; empty with fifo."""
    if sweep.tune is None or not isinstance(sweep.tune.scheduler, AshaScheduler):
        return ()
    rung, rungs = sweep.tune.scheduler.grace_period, []
    while rung < sweep.training.max_steps:
        rungs.append(rung)
        rung *= sweep.tune.scheduler.reduction_factor
    return tuple(rungs)


def _least_steps(sweep: Sweep, rungs: tuple[int, ...]) -> int:
    """Count tuning steps if each rung passes its best share only, as if trials ran in step."""
    if sweep.tune is None:
        return 0
    trials, steps, former = sweep.tune.num_trials, 0, 0
    if isinstance(sweep.tune.scheduler, AshaScheduler):
        for rung in rungs:
            steps += trials * (rung - former)
            former = rung
            trials = max(1, trials // sweep.tune.scheduler.reduction_factor)
    return steps + trials * (sweep.training.max_steps - former)
