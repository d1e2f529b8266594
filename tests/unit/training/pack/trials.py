"""Trials in packs and the same trials alone, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fpt_ray.config import TrialSettings
from fpt_ray.training import (
    Evaluation,
    Pack,
    PackedTrial,
    PackKey,
    Shelf,
    Trainer,
    prepare_trial,
)

FAMILIES = ("gpt2", "bert", "distilbert", "roberta", "t5", "llama", "vit", "longformer")
NO_TABLE = ("t5", "llama")
"""Families without a table of positions."""

RTOL = 1e-5
"""How far a trial in a pack may be from the same trial alone."""


def prepare_all(jobs: Sequence[tuple[TrialSettings, int]], **options: Any) -> list[PackedTrial]:
    """Prepare trials of some settings and seeds that share what they can."""
    shelf = Shelf()
    return [prepare_trial(settings, seed, shelf=shelf, **options) for settings, seed in jobs]


class Packs:
    """A pack for each key, as an engine has them."""

    def __init__(self) -> None:
        self.packs: dict[PackKey, Pack] = {}

    def of(self, trial: PackedTrial) -> Pack:
        if trial.key not in self.packs:
            self.packs[trial.key] = Pack(trial)
        return self.packs[trial.key]

    def advance(self, trials: Sequence[PackedTrial], num_steps: int) -> list[Evaluation]:
        """Train those of equal keys together, and evaluate them."""
        found: dict[int, Evaluation] = {}
        for key in {trial.key for trial in trials}:
            members = [trial for trial in trials if trial.key == key]
            pack = self.of(members[0])
            pack.train(members, num_steps)
            evaluations = pack.evaluate(members)
            found |= {id(t): e for t, e in zip(members, evaluations, strict=True)}
        return [found[id(trial)] for trial in trials]


def figures(evaluation: Evaluation) -> list[float]:
    """Losses and accuracy; where training diverged, its step only."""
    measured = (evaluation.train_loss, evaluation.validation_loss, evaluation.validation_accuracy)
    return [evaluation.step, *(value for value in measured if value is not None)]


def assert_close(found: PackedTrial | Trainer, expected: PackedTrial | Trainer) -> None:
    """Compare the trained parameters."""
    assert_values_close(found.values(), expected.values())


def assert_values_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare each parameter, beside the largest of its numbers.

    Some have gradients of 0 but for rounding, such as biases of keys; they count beside a hundredth
    of the largest number of all.
    """
    assert found.keys() == expected.keys()
    least = max(value.abs().max().item() for value in expected.values()) / 100
    for name, value in expected.items():
        atol = RTOL * max(value.abs().max().item(), least)
        torch.testing.assert_close(found[name], value, rtol=RTOL, atol=atol, msg=name)


def copies(trial: PackedTrial) -> dict[str, Tensor]:
    """The trained parameters as they are now."""
    return {name: value.clone() for name, value in trial.values().items()}
