"""A whole sweep with ``fpt-ray run`` against the same trials as a plain Ray Tune script.

    python benchmarks/sweep.py [--trials 32] [--steps 300] [--schedulers asha fifo] [--repeats 1]

Both search learning rates of a frozen MiniLM on Bit XOR, the same ones in the same order, then
train the best one again from another seed and test it. Wall time runs from starting the command to
its end: imports, Ray's start and stop, and our report included. With fifo both train equally many
steps by construction; with asha what is stopped depends on which trials meet at a rung, so that the
steps that were really trained are counted, and seconds for each stand beside the wall time. Twice
as fast is wanted. The two take turns; the median over repeats counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plain_tune import BATCH_SIZE, NUM_TEST, NUM_VALIDATION, rates
from provenance import write_result

from fpt_ray.records import load_sweep_record
from fpt_ray.storage import RunDirectory

ROOT = Path(__file__).parents[1]
WANTED_RATIO = 2.0
SCHEDULERS = {
    "asha": "{{name: asha, grace_period: {grace_period}, reduction_factor: 3}}",
    "fifo": "{{name: fifo}}",
}
SWEEP = """\
name: ours
task: {{name: bit_xor}}
model: {{backbone: minilm-l6, trained: [input, output, layer_norm, positions]}}
training:
  batch_size: {batch_size}
  max_steps: {steps}
  eval_every: {eval_every}
  validation_size: {num_validation}
  test_size: {num_test}
tune:
  space: {{training.learning_rate: {{grid: {rates}}}}}
  scheduler: {scheduler}
final: {{seeds: 1}}
resources: {{device: cpu, pack: {pack}}}
"""


def ours(arguments: argparse.Namespace, scheduler: str, folder: Path) -> dict[str, Any]:
    """Run the sweep with our command."""
    file = folder / "ours.yaml"
    filled = SCHEDULERS[scheduler].format(grace_period=arguments.grace_period)
    text = SWEEP.format(
        batch_size=BATCH_SIZE,
        steps=arguments.steps,
        eval_every=arguments.eval_every,
        num_validation=NUM_VALIDATION,
        num_test=NUM_TEST,
        rates=rates(arguments.trials),
        scheduler=filled,
        pack=arguments.pack,
    )
    file.write_text(text, encoding="utf-8")
    command = ["-m", "fpt_ray.sweep", str(file), "--storage", str(folder), "--address", "local"]
    wall_s = timed(command)
    record = load_sweep_record(RunDirectory(folder / "ours"))
    finalist = next(trial for trial in record.trials if trial.stage == "final")
    packs = [found.pack for trial in record.trials for found in trial.evaluations]
    return {
        **counted(wall_s, [trial.steps for trial in record.trials]),
        "largest_pack": max(packs),
        "test_accuracy": finalist.test and finalist.test.test_accuracy,
    }


def plain(arguments: argparse.Namespace, scheduler: str, folder: Path) -> dict[str, Any]:
    """Run it as a plain Tune script."""
    out = folder / "plain.json"
    options = {
        "--trials": arguments.trials,
        "--steps": arguments.steps,
        "--eval-every": arguments.eval_every,
        "--grace-period": arguments.grace_period,
        "--scheduler": scheduler,
    }
    words = [str(word) for option in options.items() for word in option]
    wall_s = timed([str(Path(__file__).with_name("plain_tune.py")), str(out), *words])
    found = json.loads(out.read_text(encoding="utf-8"))
    return {**counted(wall_s, found["steps"]), "test_accuracy": found["test_accuracy"]}


def timed(arguments: list[str]) -> float:
    """Run a Python command to its end; return its wall time in seconds."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return time.perf_counter() - started


def counted(wall_s: float, steps: list[int]) -> dict[str, Any]:
    """Put the wall time beside the steps that were trained."""
    return {
        "wall_s": round(wall_s, 1),
        "trials": len(steps),
        "steps": sum(steps),
        "s_per_step": round(wall_s / sum(steps), 5),
    }


def compare(arguments: argparse.Namespace, scheduler: str) -> dict[str, Any]:
    """Run both, in turns, each with a folder of its own."""
    contestants: dict[str, Callable[..., dict[str, Any]]] = {"plain": plain, "ours": ours}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for _ in range(arguments.repeats):
        for name, contestant in contestants.items():
            with tempfile.TemporaryDirectory() as folder:
                runs[name].append(contestant(arguments, scheduler, Path(folder)))
    return {
        "wall_time_ratio": ratio(runs, "wall_s"),
        "wanted_wall_time_ratio": WANTED_RATIO,
        "time_per_step_ratio": ratio(runs, "s_per_step"),
        **runs,
    }


def ratio(runs: dict[str, list[dict[str, Any]]], figure: str) -> float:
    """Divide the plain script's median by ours."""
    medians = {name: statistics.median(run[figure] for run in runs[name]) for name in runs}
    return round(medians["plain"] / medians["ours"], 2)


def main() -> None:
    """Compare with every scheduler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32, help="of the search; one more is tested")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--eval-every", type=int, default=25)
    parser.add_argument("--grace-period", type=int, default=50)
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=list(SCHEDULERS))
    arguments = parser.parse_args()
    cases = {name: compare(arguments, name) for name in arguments.schedulers}
    setting = {
        name: getattr(arguments, name)
        for name in ("trials", "steps", "eval_every", "grace_period", "pack", "repeats")
    }
    write_result("sweep", {"task": "bit_xor", "backbone": "minilm-l6", **setting, "cases": cases})


if __name__ == "__main__":
    main()
