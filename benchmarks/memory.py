"""Private memory that each of several processes adds for the same frozen weights.

    python benchmarks/memory.py [--processes 4]

Every process builds a trial on a random GPT-2 base, trains one step, and waits until all have,
since a page that only one process has mapped counts as private. Then each reads from /proc: how far
its private memory grew when it read all frozen weights, and, after the step, what of the mapped
weights file is resident and what of that is private. For contrast, the same with a private copy of
the weights. At most 60 MB are wanted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from provenance import write_result

BACKBONE = "gpt2"
WANTED_MB = 60


def private_mb() -> float:
    """Read the private memory of this process."""
    return sum_field(Path("/proc/self/smaps_rollup").read_text(encoding="utf-8"), "Private_")


def mapped_mb(folder: str, field: str) -> float:
    """Read what this process holds of mapped files below a folder: Rss, or Private_ for its own."""
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    ours = [mapping for mapping in mappings if folder in mapping.partition("\n")[0]]
    return sum(sum_field(mapping, field) for mapping in ours)


def sum_field(smaps: str, field: str) -> float:
    """Add all fields whose names begin so, in MB."""
    return sum(int(kb) for kb in re.findall(rf"^{field}\w*:\s+(\d+) kB", smaps, re.MULTILINE)) / 1e3


def measure(shared: bool, barrier: Barrier, results: Any) -> None:
    """Build a trial in this process and report its private memory for frozen weights."""
    # torch is imported in each process by itself, as in a worker, and not inherited by a fork.
    import torch

    from fpt_ray.config import TrialSettings
    from fpt_ray.models import BackboneChoice, find_backbone
    from fpt_ray.training import build_trainer

    torch.set_num_threads(1)
    model = {"backbone": BACKBONE, "init": "random", "trained": ["input", "output", "layer_norm"]}
    settings = TrialSettings.model_validate(
        {
            "task": {"name": "bit_xor"},
            "model": model,
            "training": {"batch_size": 2, "validation_size": 1},
        }
    )
    weights = find_backbone(BackboneChoice(BACKBONE, "random")).weights(0).tensors
    before = private_mb()
    tensors = weights if shared else {name: value.clone() for name, value in weights.items()}
    total = sum(value.sum().item() for value in tensors.values())
    barrier.wait()
    growth = private_mb() - before
    barrier.wait()
    trainer = build_trainer(settings, seed=0)
    trainer.advance(1)
    trainer.verify_frozen()
    barrier.wait()
    folder = os.environ["FPT_RAY_CACHE"]
    resident, private = (mapped_mb(folder, field) for field in ("Rss", "Private_"))
    barrier.wait()
    measured = {"private_growth_mb": growth, "mapped_mb": resident, "mapped_private_mb": private}
    results.put({"checksum": total, **measured})


def run(shared: bool, num_processes: int) -> dict[str, Any]:
    """Measure in several processes at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(num_processes), context.Queue()
    processes = [
        context.Process(target=measure, args=(shared, barrier, results))
        for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    assert len({each["checksum"] for each in found}) == 1
    fields = ("private_growth_mb", "mapped_mb", "mapped_private_mb")
    return {field: [round(each[field], 1) for each in found] for field in fields}


def main() -> None:
    """Compare shared weights with private copies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=4)
    num_processes = parser.parse_args().processes
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FPT_RAY_CACHE"] = folder
        shared = run(True, num_processes)
        (weights,) = Path(folder, "weights").glob("*.safetensors")
        setting = {"backbone": BACKBONE, "weights_mb": round(weights.stat().st_size / 1e6, 1)}
        copied = run(False, num_processes)
    cases = {"processes": num_processes, "shared": shared, "copied_for_contrast": copied}
    write_result("memory", {**setting, "wanted_mb": WANTED_MB, **cases})


if __name__ == "__main__":
    main()
