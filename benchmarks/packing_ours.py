"""Trials in one of our packs, as ``packing.py`` measures them."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from packing_cases import Case, Precision, arithmetic, synchronise

from fpt_ray.training.pack import Pack, PackedTrial, prepare_trial
from fpt_ray.training.pack.numbers import Numbers


class Packed:
    """Trials of many learning rates, in one pack.

    They have one seed, as the trials of a search do, and with it batches and a random backbone.

    Args:
        case: their shapes.
        num_trials: how many.
        device: where to compute.
        precision: of the forward pass.
    """

    def __init__(
        self, case: Case, num_trials: int, device: torch.device, precision: Precision
    ) -> None:
        first = prepare_trial(case.settings(precision), 0, str(device), task=case.build_task())
        self.trials = [first, *(_another(first, number) for number in range(1, num_trials))]
        self._pack = Pack(first)
        self._device = device
        self._precision = precision

    def __call__(self, num_steps: int) -> float:
        """Train all of them; return the seconds that it took."""
        synchronise(self._device)
        started = time.perf_counter()
        with arithmetic(self._precision):
            made = self._pack.train(self.trials, num_steps)
        synchronise(self._device)
        if made != num_steps:
            raise SystemExit("a trial diverged")
        return time.perf_counter() - started

    def own_storages(self) -> set[int]:
        """Give the addresses of what holds the trials' parameters."""
        return {trial.numbers.values.untyped_storage().data_ptr() for trial in self.trials}


def _another(first: PackedTrial, number: int) -> PackedTrial:
    """Make a trial of another learning rate, without drawing the same weights again."""
    rate = first.work.recipe.learning_rate * 0.99**number
    work = replace(first.work, recipe=replace(first.work.recipe, learning_rate=rate))
    numbers = Numbers.zeros(first.parts.layout(), first.parts.device)
    numbers.take(first.numbers, {})
    return PackedTrial(first.key, work, first.parts, numbers)
