"""Train sampled trials of a sweep in packs and alone, and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from fpt_ray.config import Sweep
from fpt_ray.training.pack import PackedTrial, PackKey, Shelf, prepare_trial
from fpt_ray.verify.differences import compare
from fpt_ray.verify.result import Checked, CheckedPack, Verification
from fpt_ray.verify.sample import VALIDATION_SIZE, Sample, sample_trials
from fpt_ray.verify.traces import Trace, trace_alone, trace_pack

NUM_STEPS = 20
TOLERANCE = 1e-5
LEAST_TRIALS = 8
TRIALS_PER_ARM = 2
NUM_NUDGES = 8
"""How often rounding is tried: about every other nudge tips what stands on an edge, as the ReLU of
a number that is zero but for rounding."""

Member = tuple[Sample, PackedTrial]


def verify_packs(
    sweep: Sweep,
    num_trials: int | None = None,
    num_steps: int = NUM_STEPS,
    tolerance: float = TOLERANCE,
    progress: Callable[[str], object] = lambda line: None,
) -> Verification:
    """Compare trials in packs with the same trials alone: same data, fp32, no dropout.

    Args:
        sweep: from which trials are sampled.
        num_trials: how many; None takes two of every arm, at least 8.
        num_steps: updates of each.
        tolerance: limit of relative differences, as ``MEASURES`` applies it.
        progress: told what is being done.

    Raises:
        FptRayError: a trial cannot be built, or its data are missing.
    """
    wanted = num_trials or max(LEAST_TRIALS, TRIALS_PER_ARM * len(sweep.arms))
    samples = sample_trials(sweep, wanted, num_steps)
    device = choose_device(sweep.resources.device)
    packs = []
    groups = group(samples, device)
    for number, members in enumerate(groups, start=1):
        progress(f"pack {number} of {len(groups)}: {len(members)} trials")
        packs.append(_check(members, num_steps, tolerance, device))
        members.clear()
    return Verification(
        sweep.name, num_steps, tolerance, device, tuple(packs), tuple(_notes(sweep))
    )


def choose_device(wanted: str) -> str:
    """Choose where to compute, as an engine on this machine would."""
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def group(samples: Sequence[Sample], device: str) -> list[list[Member]]:
    """Prepare trials, and put those that may train together into one pack, as engines do."""
    shelf = Shelf()
    groups: dict[PackKey, list[Member]] = {}
    for sample in samples:
        trial = prepare_trial(sample.settings, sample.seed, device, shelf=shelf)
        groups.setdefault(trial.key, []).append((sample, trial))
    return list(groups.values())


def _check(members: Sequence[Member], num_steps: int, tolerance: float, device: str) -> CheckedPack:
    traces = trace_pack([trial for _, trial in members], num_steps)
    for _, trial in members:
        trial.verify_frozen()
    checked = (
        _check_trial(sample, packed, num_steps, tolerance, device)
        for (sample, _), packed in zip(members, traces, strict=True)
    )
    return CheckedPack(tuple(checked))


def _check_trial(
    sample: Sample, packed: Trace, num_steps: int, tolerance: float, device: str
) -> Checked:
    """Compare a trial with itself alone; where they are far apart, ask how far rounding goes."""
    alone = trace_alone(sample, num_steps, device)
    checked = Checked(sample, compare(packed, alone))
    for seed in range(NUM_NUDGES):
        if not checked.faults(tolerance):
            break
        nudged = compare(trace_alone(sample, num_steps, device, seed), alone)
        control = nudged if checked.control is None else nudged.or_larger(checked.control)
        checked = replace(checked, control=control)
    return checked


def _notes(sweep: Sweep) -> list[str]:
    notes = []
    settings = [arm.settings.training for arm in sweep.arms]
    if dropouts := sorted({each.dropout for each in settings if each.dropout}):
        notes.append(
            f"Dropout, {' or '.join(f'{each:g}' for each in dropouts)} in the file, is 0 here: a"
            " pack draws other masks than a trial alone."
        )
    if any(each.precision != "fp32" for each in settings):
        notes.append("Precision, bf16 in the file, is fp32 here, where rounding is small.")
    notes.append(f"Of validation, {VALIDATION_SIZE} sequences are read after each step.")
    return notes
