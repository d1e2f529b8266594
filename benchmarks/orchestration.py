"""Orchestration: wall time for each trivial trial beyond training, and how fast commands answer.

    python benchmarks/orchestration.py [--trials 100]

Prints one JSON document and writes it to benchmarks/results/orchestration.json. Three figures for
a trial, each the share of a span of wall time, less training and evaluation: of the whole command
(imports, Ray's start and stop, the report); of the tuning (from Ray's being ready to the last log
line, the start of the workers included); and the marginal one, from the first log line to the last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from provenance import write_result

from fpt_ray.records import load_sweep_record
from fpt_ray.storage import RunDirectory

ROOT = Path(__file__).parents[1]
SWEEP = """\
name: trivial
task: {{name: bit_xor, length: 1}}
model: {{backbone: tiny-bert, init: random, num_layers: 1, trained: [output]}}
training: {{batch_size: 1, max_steps: 1, eval_every: 1, validation_size: 1, test_size: 1}}
compare:
  groups:
    output: {{model.trained: [output]}}
    input: {{model.trained: [output, input]}}
tune:
  space: {{training.learning_rate: {{log_uniform: [1.0e-5, 1.0e-1]}}}}
  searcher: {{name: random, num_trials: {per_arm}}}
final: {{seeds: 1}}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    arguments = parser.parse_args()
    write_result("orchestration", {"sweep": sweep(arguments.trials), "commands": commands()})


def sweep(num_trials: int) -> dict[str, Any]:
    """Run a sweep of trivial trials and take its time apart; all times in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trivial.yaml"
        file.write_text(SWEEP.format(per_arm=(num_trials - 2) // 2))
        started = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "fpt_ray.sweep",
                file,
                "--storage",
                folder,
                "--address",
                "local",
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        wall_s = time.perf_counter() - started
        run = Path(folder) / "trivial"
        record = load_sweep_record(RunDirectory(run))
        ready = (run / "environment.json").stat().st_mtime
        logs = sorted(log.stat().st_mtime for log in run.glob("trials/*/evaluations.jsonl"))
    training_s = sum(t.evaluations[-1].wall_s for t in record.trials)
    num_slots = os.cpu_count() or 1
    spans_s = {
        "whole_command": wall_s,
        "tuning": logs[-1] - ready,
        "marginal": logs[-1] - logs[0],
    }
    return {
        "trials": len(record.trials),
        "slots": num_slots,
        "wanted_s": 0.15,
        "training_and_evaluation_s_summed": training_s,
        "spans_s": spans_s,
        "beyond_training_s_per_trial": {
            name: (span - training_s / num_slots) / len(logs) for name, span in spans_s.items()
        },
    }


def commands() -> dict[str, float]:
    """Time commands that must answer at once: the median of five, in seconds."""
    files = sorted(str(file) for file in (ROOT / "sweeps").rglob("*.yaml"))
    return {
        "help_s": _median_s(["--help"]),
        "validate_one_s": _median_s(["validate", files[0]]),
        "validate_all_s": _median_s(["validate", *files]),
    }


def _median_s(arguments: list[str]) -> float:
    code = "import sys; from fpt_ray.cli import main; sys.exit(main(sys.argv[1:]))"
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, capture_output=True
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
