"""Checks before the first trial: each arm is built without weights, and its sources are hashed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fpt_ray.config import Arm, Sweep, trial_id
from fpt_ray.errors import FptRayError, Problem, SweepFileError
from fpt_ray.training import Description, describe, fingerprints


@dataclass(frozen=True, slots=True)
class CheckedArm:
    """An arm that can be built: its parameters, and the fingerprints of its weights and data."""

    arm: Arm
    description: Description
    fingerprints: Mapping[str, str]


def check_arms(sweep: Sweep, file: str) -> tuple[CheckedArm, ...]:
    """Build every arm on a meta device and fingerprint its sources; nothing is written.

    Raises:
        SweepFileError: with the problems of all arms at once.
    """
    checked: list[CheckedArm] = []
    problems: dict[str, Problem] = {}
    for arm in sweep.arms:
        try:
            checked.append(CheckedArm(arm, describe(arm.settings), fingerprints(arm.settings)))
        except FptRayError as error:
            found = error.problem
            problem = Problem(found.what, found.where or f"{file}, arm {arm.name}", found.fix)
            problems.setdefault(found.what, problem)
    if problems:
        raise SweepFileError(tuple(problems.values()))
    _refuse_twins(checked, file)
    return tuple(checked)


def _refuse_twins(checked: list[CheckedArm], file: str) -> None:
    """Refuse arms that differ in the file but not in what they compute."""
    seen: dict[str, str] = {}
    for each in checked:
        identity = trial_id(each.arm.settings, 0, each.fingerprints)
        twin = seen.setdefault(identity, each.arm.name)
        if twin != each.arm.name:
            raise SweepFileError(
                (
                    Problem(
                        f"the arms {twin} and {each.arm.name} compute the same: "
                        "their settings, weights and data are equal",
                        where=f"{file}, compare",
                        fix="remove one of them, or point it to other weights",
                    ),
                )
            )
