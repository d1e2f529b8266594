"""What a sweep will do, arm by arm, without training anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from fpt_ray.config import Sweep, TrialSettings
from fpt_ray.plan.machine import Machine, measure
from fpt_ray.plan.operations import Operations, count_operations, num_evaluated
from fpt_ray.plan.steps import least_tuning_steps, rungs_of
from fpt_ray.training import Description, describe


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm: its parameters, and its budget.

    Attributes:
        name: the arm's name.
        settings: what it trains, tuned values aside.
        description: parameters in all and trained, from a build without weights.
        operations: floating-point operations on one sequence.
        tune_trials: trials of the search.
        final_trials: trials of the final stage.
        most_steps: steps if no trial is stopped early.
        least_steps: steps if the scheduler stops whatever it may at each rung, and all others go
            on.
    """

    name: str
    settings: TrialSettings
    description: Description
    operations: Operations
    tune_trials: int
    final_trials: int
    most_steps: int
    least_steps: int

    @property
    def step_operations(self) -> int:
        """Floating-point operations of one training step."""
        return self.operations.training * self.settings.training.batch_size

    def total_operations(self, steps: int) -> int:
        """Count the floating-point operations of this many steps, with evaluations and tests."""
        validation, test = num_evaluated(self.settings)
        evaluations = -(-steps // self.settings.training.eval_every)
        evaluated = evaluations * validation + self.final_trials * test
        return steps * self.step_operations + evaluated * self.operations.forward

    def to_json(self, machine: Machine) -> dict[str, Any]:
        """Write the plan of one arm as JSON data."""
        least, most = map(self.total_operations, (self.least_steps, self.most_steps))
        return {
            "arm": self.name,
            "trained_parameters": self.description.trained_parameters,
            "total_parameters": self.description.total_parameters,
            "by_group": {
                group: {"trained": trained, "total": total}
                for group, (trained, total) in self.description.by_group.items()
            },
            "tune_trials": self.tune_trials,
            "final_trials": self.final_trials,
            "least_steps": self.least_steps,
            "most_steps": self.most_steps,
            "flop_per_step": self.step_operations,
            "least_flop": least,
            "most_flop": most,
            "least_device_hours": machine.hours(least),
            "most_device_hours": machine.hours(most),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep's arms and rungs, and the device that its device-hours are estimated for."""

    name: str
    rungs: tuple[int, ...]
    max_steps: int
    arms: tuple[ArmPlan, ...]
    machine: Machine

    def to_json(self) -> dict[str, Any]:
        """Write the plan as JSON data; steps are optimizer steps."""
        arms = [arm.to_json(self.machine) for arm in self.arms]
        return {
            "name": self.name,
            "rungs": list(self.rungs),
            "max_steps": self.max_steps,
            "estimate": {
                "device": self.machine.device,
                "flops_per_s": self.machine.flops_per_s,
                "utilisation": self.machine.utilisation,
                "least_flop": sum(arm["least_flop"] for arm in arms),
                "most_flop": sum(arm["most_flop"] for arm in arms),
                "least_device_hours": sum(arm["least_device_hours"] for arm in arms),
                "most_device_hours": sum(arm["most_device_hours"] for arm in arms),
            },
            "arms": arms,
        }

    def table(self) -> RenderableType:
        """Lay the plan out for a terminal."""
        rungs = f"rungs at {', '.join(map(str, self.rungs))}" if self.rungs else "no early stopping"
        table = Table(title=f"{self.name}: {rungs}, full length {self.max_steps} steps")
        table.add_column("arm", no_wrap=True, min_width=max(len(arm.name) for arm in self.arms))
        for column in ("trained", "of all", "tune trials", "final trials"):
            table.add_column(column, justify="right")
        for column in ("steps", "GFLOP a step", "device-hours"):
            table.add_column(column, justify="right", no_wrap=True)
        for arm in self.arms:
            table.add_row(*self._row(arm))
        return Group(table, self._total())

    def _row(self, arm: ArmPlan) -> list[str]:
        trained, total = arm.description.trained_parameters, arm.description.total_parameters
        planned = arm.to_json(self.machine)
        return [
            escape(arm.name),
            f"{trained:,}",
            f"{trained / total:.3%}",
            str(arm.tune_trials),
            str(arm.final_trials),
            _range(arm.least_steps, arm.most_steps),
            _short(arm.step_operations / 1e9),
            _range(planned["least_device_hours"], planned["most_device_hours"]),
        ]

    def _total(self) -> str:
        total = self.to_json()["estimate"]
        trials = sum(arm.tune_trials + arm.final_trials for arm in self.arms)
        steps = [sum(getattr(arm, f"{end}_steps") for arm in self.arms) for end in _ENDS]
        work = [total[f"{end}_flop"] / 1e15 for end in _ENDS]
        hours = [total[f"{end}_device_hours"] for end in _ENDS]
        return (
            f"In all {trials} trials, {_range(*steps)} steps, {_range(*work)} PFLOP: an estimated"
            f" {_range(*hours)} device-hours.\n"
            f"The estimate counts matrix products, evaluations included, at"
            f" {escape(self.machine.assumption)}. Loading data and starting up come on top, and"
            f" features that are cached come off."
        )


_ENDS = ("least", "most")


def plan_sweep(sweep: Sweep, machine: Machine | None = None) -> Plan:
    """Plan a sweep.

    Args:
        sweep: what to plan.
        machine: for which device-hours are estimated; None measures the one that would be used
            here.

    Raises:
        FptRayError: an arm cannot be built.
    """
    rungs = rungs_of(sweep)
    tune_trials = sweep.tune.num_trials if sweep.tune else 0
    max_steps, final = sweep.training.max_steps, sweep.final.seeds
    arms = []
    for arm in sweep.arms:
        described = describe(arm.settings)
        planned = ArmPlan(
            name=arm.name,
            settings=arm.settings,
            description=described,
            operations=count_operations(arm.settings, described),
            tune_trials=tune_trials,
            final_trials=final,
            most_steps=(tune_trials + final) * max_steps,
            least_steps=least_tuning_steps(sweep, rungs) + final * max_steps,
        )
        arms.append(planned)
    machine = machine or measure(sweep.training.precision, sweep.resources.device)
    return Plan(sweep.name, rungs, max_steps, tuple(arms), machine)


def _range(least: float, most: float) -> str:
    shortest, longest = map(_short, (least, most))
    return longest if shortest == longest else f"{shortest} to {longest}"


def _short(value: float) -> str:
    """Write a count in full, and any other number with two significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{float(f'{value:.2g}'):,g}"
