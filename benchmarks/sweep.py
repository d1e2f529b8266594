"""A whole sweep with ``fpt-ray run`` against the same trials as a plain Ray Tune script.

    python benchmarks/sweep.py [--cases short long] [--trials 32] [--repeats 1]

Both search learning rates of a frozen MiniLM on Bit XOR, the same ones in the same order, with
ASHA, then train the best one again from another seed and test it. Wall time runs from starting the
command to its end: imports, Ray's start and stop, and our report included.

What ASHA stops depends on which trials meet at a rung, which no two runs have in common. So our
sweep comes first, and then the script trains every trial for as many steps as ours has, one
process a trial and two at a time (``plain_same_steps``): it does not pay for a scheduler and has
nothing else to decide either. The script with an ASHA of its own (``plain``) stands beside it.
Twice as fast is wanted, at equal steps. They take turns; medians over repeats count. What ours
saves is the start of a process for each trial most of all, so that short trials gain more than long
ones: there is a case of each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plain_tune import BATCH_SIZE, NUM_TEST, rates
from provenance import write_result

from fpt_ray.records import load_sweep_record
from fpt_ray.storage import RunDirectory

ROOT = Path(__file__).parents[1]
WANTED_RATIO = 2.0
SWEEP = """\
name: ours
task: {{name: bit_xor}}
model: {{backbone: minilm-l6, trained: [input, output, layer_norm, positions]}}
training:
  batch_size: {batch_size}
  max_steps: {case.steps}
  eval_every: {case.eval_every}
  validation_size: {case.num_validation}
  test_size: {num_test}
tune:
  space: {{training.learning_rate: {{grid: {rates}}}}}
  scheduler: {{name: asha, grace_period: {case.eval_every}, reduction_factor: 3}}
final: {{seeds: 1}}
resources: {{device: cpu, pack: {pack}}}
"""


@dataclass(frozen=True)
class Case:
    """How long trials are, and how much they are evaluated: ASHA looks at the first time, too."""

    eval_every: int
    steps: int
    num_validation: int


CASES = {"short": Case(10, 100, 64), "long": Case(25, 100, 256)}


def ours(arguments: argparse.Namespace, case: Case, folder: Path) -> dict[str, Any]:
    """Run the sweep with our command."""
    file = folder / "ours.yaml"
    text = SWEEP.format(
        case=case,
        batch_size=BATCH_SIZE,
        num_test=NUM_TEST,
        rates=rates(arguments.trials),
        pack=arguments.pack,
    )
    file.write_text(text, encoding="utf-8")
    command = ["-m", "fpt_ray.sweep", str(file), "--storage", str(folder), "--address", "local"]
    wall_s = timed(command)
    record = load_sweep_record(RunDirectory(folder / "ours"))
    searched = [trial for trial in record.trials if trial.stage == "tune"]
    searched.sort(key=lambda trial: trial.values["training.learning_rate"])
    finalist = next(trial for trial in record.trials if trial.stage == "final")
    packs = [found.pack for trial in record.trials for found in trial.evaluations]
    return {
        **counted(wall_s, [*(trial.steps for trial in searched), finalist.steps]),
        "largest_pack": max(packs),
        "test_accuracy": finalist.test and finalist.test.test_accuracy,
    }


def plain(
    arguments: argparse.Namespace, case: Case, folder: Path, ends: list[int] | None = None
) -> dict[str, Any]:
    """Run it as a plain Tune script; ``ends`` are the trials' last steps, if it is to have them."""
    out = folder / "plain.json"
    options = {
        "--trials": arguments.trials,
        "--steps": case.steps,
        "--eval-every": case.eval_every,
        "--grace-period": case.eval_every,
        "--validation": case.num_validation,
    }
    words = [str(word) for option in options.items() for word in option]
    if ends is not None:
        words += ["--ends", *map(str, ends)]
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


def counted(wall_s: float, ends: list[int]) -> dict[str, Any]:
    """Put the wall time beside the steps that were trained."""
    return {
        "wall_s": round(wall_s, 1),
        "trials": len(ends),
        "steps": sum(ends),
        "s_per_step": round(wall_s / sum(ends), 5),
        "ends": ends,
    }


def compare(arguments: argparse.Namespace, case: Case) -> dict[str, Any]:
    """Run all in turns, each with a folder of its own."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "plain_same_steps": [], "plain": []}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs["ours"].append(ours(arguments, case, Path(folder)))
            ends = runs["ours"][-1]["ends"][:-1]
            runs["plain_same_steps"].append(plain(arguments, case, Path(folder), ends))
            runs["plain"].append(plain(arguments, case, Path(folder)))
    return {
        **asdict(case),
        "wall_time_ratio": ratio(runs, "plain_same_steps", "wall_s"),
        "wanted_wall_time_ratio": WANTED_RATIO,
        "wall_time_ratio_to_own_asha": ratio(runs, "plain", "wall_s"),
        "time_per_step_ratio_to_own_asha": ratio(runs, "plain", "s_per_step"),
        **runs,
    }


def ratio(runs: dict[str, list[dict[str, Any]]], other: str, figure: str) -> float:
    """Divide the median of a plain script by ours."""
    medians = {name: statistics.median(run[figure] for run in runs[name]) for name in runs}
    return round(medians[other] / medians["ours"], 2)


def main() -> None:
    """Compare in every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--trials", type=int, default=32, help="of the search; one more is tested")
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", metavar="NAME", default="sweep", help="of the result")
    arguments = parser.parse_args()
    cases = {name: compare(arguments, CASES[name]) for name in arguments.cases}
    setting = {name: getattr(arguments, name) for name in ("trials", "pack", "repeats")}
    result = {"task": "bit_xor", "backbone": "minilm-l6", **setting, "cases": cases}
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
