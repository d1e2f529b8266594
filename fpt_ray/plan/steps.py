"""How many steps a sweep's search takes, depending on what its scheduler stops."""

from __future__ import annotations

from fpt_ray.config import AshaScheduler, Sweep


def rungs_of(sweep: Sweep) -> tuple[int, ...]:
    """List the steps at which ASHA may stop a trial, below full length; empty with fifo."""
    if sweep.tune is None or not isinstance(sweep.tune.scheduler, AshaScheduler):
        return ()
    rung, rungs = sweep.tune.scheduler.grace_period, []
    while rung < sweep.training.max_steps:
        rungs.append(rung)
        rung *= sweep.tune.scheduler.reduction_factor
    return tuple(rungs)


def least_tuning_steps(sweep: Sweep, rungs: tuple[int, ...]) -> int:
    """Count an arm's tuning steps if each rung passes its best share only, all in step."""
    if sweep.tune is None:
        return 0
    trials, steps, former = sweep.tune.num_trials, 0, 0
    if isinstance(sweep.tune.scheduler, AshaScheduler):
        for rung in rungs:
            steps += trials * (rung - former)
            former = rung
            trials = max(1, trials // sweep.tune.scheduler.reduction_factor)
    return steps + trials * (sweep.training.max_steps - former)
