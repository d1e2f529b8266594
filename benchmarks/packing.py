"""Many trials on one device: packs against plain loops, processes and stacked copies.

    python benchmarks/packing.py [--device auto|cpu|cuda] [--cases NAME...] [--quick]

Trial-steps a second, side by side in one run, of
- ``alone``: the paper's way, a plain loop over the Hugging Face model, one trial at a time;
- ``processes``: several such loops at once, each in a process of its own;
- ``copies``: trials stacked with one copy of all weights for each (torch.func, as HFTA has it);
- ``vmap``: the same over one copy of the frozen weights;
- ``pack``: ours, with more and more trials until that pays no more.

All have random weights, batches of FPT's own sizes, dropout 0.1, Adam and clipping for each trial.
The first four draw their tokens on the device; ours delivers a task's real batches. Blocks of steps
take turns; each figure is a median over rounds, each ratio the median over rounds of what was
measured in the same one. Utilisation is the share of the machine's own matrix-product rate, which
is measured in every round; only matrix products count. Memory is measured in processes of its own,
by ``packing_memory.py``. It needs no Ray, no data and no downloads.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from packing_cases import (
    CASES,
    PRECISIONS,
    Case,
    Precision,
    Run,
    arithmetic,
    describe_device,
    forget,
)
from packing_memory import compare_memory
from packing_ours import Packed
from packing_plain import Processes, alone, vmapped
from provenance import write_result

from fpt_ray.plan import measure

SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": tuple(2**power for power in range(9))}
COPIES = {"cpu": (8,), "cuda": (8, 32)}
PROCESSES = {"cpu": (2,), "cuda": (2, 4, 8)}
GROWTH = 1.05
"""Where two doublings in a row do not make a pack this much faster, no larger one is tried."""
ALWAYS = 16
"""Packs up to this size are measured in any case."""
CPU_CASES = ("bit_xor-gpt2-16", "bit_xor-minilm-l6-16", "bit_memory-minilm-l6-2")
WANTED_ON_CPU = {"ratio_of_pack_1": 1.0, "ratio_of_pack_8": 1.3, "utilisation_of_pack_16": 0.8}


class Contestant:
    """Something that trains trials, and what was measured of it.

    Args:
        num_trials: that it trains at a time.
        run: trains a number of steps of each.
        block_s: how long a block of steps shall take.
    """

    def __init__(self, num_trials: int, run: Run, block_s: float) -> None:
        self.num_trials = num_trials
        self.run = run
        run(1)
        self.num_steps = max(1, min(200, int(block_s / run(1))))
        self.rates: list[float] = []

    def measure(self) -> float:
        """Train a block; return trial-steps a second."""
        self.rates.append(self.num_trials * self.num_steps / self.run(self.num_steps))
        return self.rates[-1]

    @property
    def rate(self) -> float:
        """The median of all blocks."""
        return statistics.median(self.rates)


def compare_speed(
    case: Case, device: torch.device, precision: Precision, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Measure all contestants of a case, block by block in turns."""
    contestants: dict[str, Contestant] = {}
    processes: list[Processes] = []
    for name, num_trials, make in entrants(case, device, precision, arguments):
        try:
            run = make()
            contestants[name] = Contestant(num_trials, run, arguments.block_s)
        except torch.OutOfMemoryError:
            forget(device)
            continue
        if isinstance(run, Processes):
            processes.append(run)
        if name.startswith("pack") and stagnates(contestants) and num_trials >= ALWAYS:
            break
    rates = []
    for _ in range(arguments.rounds):
        with arithmetic(precision):
            rates.append(
                measure("bf16" if precision == "bf16" else "fp32", device.type).flops_per_s
            )
        for contestant in contestants.values():
            contestant.measure()
    for each in processes:
        each.close()
    return summary(case, device, contestants, rates)


def entrants(
    case: Case, device: torch.device, precision: Precision, arguments: argparse.Namespace
) -> Iterator[tuple[str, int, Callable[[], Run]]]:
    """Name all contestants, how many trials each has, and how it is made; ours come last."""
    kind = device.type
    yield "alone", 1, lambda: alone(case, device, precision)
    for number in PROCESSES[kind]:
        yield (
            f"processes {number}",
            number,
            lambda number=number: Processes(case, number, device, precision),
        )
    for number in COPIES[kind]:
        for name, shares in (("copies", False), ("vmap", True)):
            yield (
                f"{name} {number}",
                number,
                lambda n=number, shares=shares: vmapped(case, n, shares, device, precision),
            )
    for number in SIZES[kind]:
        if number <= arguments.most:
            yield f"pack {number}", number, lambda n=number: Packed(case, n, device, precision)


def stagnates(contestants: dict[str, Contestant]) -> bool:
    """Tell whether the last two doublings of the pack did not pay; measures the last once."""
    packs = [found for name, found in contestants.items() if name.startswith("pack")]
    packs[-1].measure()
    rates = [found.rates[0] for found in packs[-3:]]
    return len(rates) == 3 and max(rates[1:]) < GROWTH * rates[0]


def summary(
    case: Case, device: torch.device, contestants: dict[str, Contestant], machine: list[float]
) -> dict[str, Any]:
    """Write what was measured of a case, and what was wanted."""
    operations = case.step_operations()
    rounds = len(machine)
    base = contestants["alone"].rates[-rounds:]
    found = {}
    for name, contestant in contestants.items():
        rates = contestant.rates[-rounds:]
        found[name] = {
            "trial_steps_per_s": _short(statistics.median(rates)),
            "ratio_to_alone": _short(_median_ratio(rates, base)),
            "utilisation": _short(_median_ratio([rate * operations for rate in rates], machine)),
        }
    packs = {name: each["ratio_to_alone"] for name, each in found.items() if "pack" in name}
    best = max(packs, key=lambda name: packs[name])
    return {
        "gflop_per_trial_step": _short(operations / 1e9),
        "matrix_product_gflops_per_s": _short(statistics.median(machine) / 1e9),
        "contestants": found,
        "best_pack": best,
        **_judged(case, device, found, packs[best]),
    }


def _judged(
    case: Case, device: torch.device, found: dict[str, dict[str, float]], best: float
) -> dict[str, Any]:
    if device.type == "cuda":
        return {"best_ratio": best, "wanted_best_ratio": case.wanted_gpu_ratio}
    judged: dict[str, Any] = {"best_ratio": best}
    if "pack 1" in found:
        judged["ratio_of_pack_1"] = found["pack 1"]["ratio_to_alone"]
    if "pack 8" in found and case.task == "bit_xor":
        judged["ratio_of_pack_8"] = found["pack 8"]["ratio_to_alone"]
    if "pack 16" in found and case.backbone == "gpt2":
        judged["utilisation_of_pack_16"] = found["pack 16"]["utilisation"]
    return {**judged, "wanted": {n: WANTED_ON_CPU[n] for n in judged if n in WANTED_ON_CPU}}


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--cases", nargs="+", choices=CASES)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block-s", type=float, default=0.5, help="a block's least seconds")
    parser.add_argument("--most", type=int, default=256, help="trials in the largest pack")
    parser.add_argument("--out", metavar="NAME", help="of the result; default: packing_DEVICE")
    parser.add_argument("--threads", type=int, help="of a CPU; default: all")
    parser.add_argument("--quick", action="store_true", help="one case, few rounds, no memory")
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.block_s, arguments.no_memory = 2, 0.05, True
        arguments.cases = arguments.cases or ["bit_xor-minilm-l6-16"]
        arguments.out = arguments.out or "packing_quick"
    return arguments


def main() -> None:
    """Run all cases in all precisions."""
    arguments = parsed()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    kind = arguments.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(kind)
    precisions = arguments.precisions or (PRECISIONS if kind == "cuda" else ("fp32",))
    cases = {}
    for name in arguments.cases or (CASES if kind == "cuda" else CPU_CASES):
        case = CASES[name]
        cases[name] = {p: compare_speed(case, device, p, arguments) for p in precisions}
        forget(device)
        if not arguments.no_memory:
            cases[name]["memory"] = compare_memory(case, device)
    setting = {name: getattr(arguments, name) for name in ("rounds", "block_s")}
    result = {**describe_device(device), **setting, "cases": cases}
    write_result(arguments.out or f"packing_{kind}", result)


if __name__ == "__main__":
    main()
