"""Memory of trials in packs, and of stacked copies, for ``packing.py``.

Every figure is the peak of a training step in a process of its own: what torch had allocated on a
GPU, what was resident on a CPU. What a further trial takes is the slope between two numbers of
trials. It is held against what it needs: its trained parameters and Adam's two moments, and its
activations, counted as the bytes that autograd saves in a plain model's forward pass. On a CPU,
what was allocated stands beside: the C library keeps more resident than is allocated at a time.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import multiprocessing
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from packing_cases import Case, Run, draw
from packing_ours import Packed
from packing_plain import PlainModel, vmapped
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Kind = Literal["pack", "copies"]
SIZES: dict[Kind, tuple[int, int]] = {"pack": (4, 12), "copies": (2, 6)}
WANTED_RATIO = 1.2
WANTED_MORE_TRIALS = 4.0


def compare_memory(case: Case, device: torch.device) -> dict[str, Any]:
    """Measure what further trials take in packs and as copies, in fp32."""
    needed = needed_bytes(case, device)
    slopes = {kind: measure_slope(case, kind, device) for kind in SIZES}
    ours, copies = (slopes[kind]["per_trial_mb"] for kind in ("pack", "copies"))
    total_mb = total_bytes(device) / 1e6
    fits = {
        kind: math.floor((total_mb - each["fixed_mb"]) / each["per_trial_mb"])
        for kind, each in slopes.items()
    }
    needed_mb = sum(needed.values()) / 1e6
    return {
        "needed_per_trial_mb": {name: round(size / 1e6, 2) for name, size in needed.items()},
        "activations_saved_by_pack_mb": round(saved_in_pack(case, device) / 1e6, 2),
        "measured": slopes,
        "ratio_to_needed": round(ours / needed_mb, 3),
        **(_allocated(case, needed) if device.type == "cpu" else {}),
        "wanted_ratio_to_needed": WANTED_RATIO,
        "memory_mb": round(total_mb),
        "trials_that_fit": fits,
        "times_as_many_as_copies": round(fits["pack"] / max(1, fits["copies"]), 2),
        "wanted_times_as_many_as_copies": WANTED_MORE_TRIALS if device.type == "cuda" else None,
        "copies_to_ours_per_trial": round(copies / ours, 2),
    }


def needed_bytes(case: Case, device: torch.device) -> dict[str, int]:
    """Count what one trial cannot do without."""
    model = PlainModel(case).to(device).train()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found = []
    for times in (1, 2):
        tokens, targets = (each.flatten(0, 1) for each in draw(case, device, times))
        found.append(saved_bytes(partial(model, tokens, targets), known))
    # Twice the sequences, less once: what does not belong to sequences is saved by all together.
    return {"parameters_and_moments": 12 * trained, "activations": found[1] - found[0]}


def _allocated(case: Case, needed: dict[str, int]) -> dict[str, float]:
    """Tell what torch has allocated on the CPU for a further trial of a pack, at the peak."""
    few, many = SIZES["pack"]
    in_step = (_allocated_in_step(case, many) - _allocated_in_step(case, few)) / (many - few)
    allocated = needed["parameters_and_moments"] + in_step
    return {
        "allocated_per_trial_mb": round(allocated / 1e6, 2),
        "allocated_ratio_to_needed": round(allocated / sum(needed.values()), 3),
    }


def _allocated_in_step(case: Case, num_trials: int) -> int:
    """Return the most bytes that were allocated at a time beyond those before a step."""
    run = Packed(case, num_trials, torch.device("cpu"), "fp32")
    run(2)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run(1)
    # The trace has what the profiler's own tables add up by operator.
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    found = [event for event in events if event["name"] == "[memory]"]
    found.sort(key=lambda event: float(event["ts"]))
    return max(accumulate(int(event["args"]["Bytes"]) for event in found))


def saved_in_pack(case: Case, device: torch.device) -> int:
    """Count the bytes that autograd saves for a further trial of a pack, parameters aside."""
    few, many = SIZES["pack"]
    found = {}
    for number in (few, many):
        pack = Packed(case, number, device, "fp32")
        pack(1)
        found[number] = saved_bytes(partial(pack, 1), pack.own_storages())
    return (found[many] - found[few]) // (many - few)


def saved_bytes(compute: Callable[[], Any], known: set[int]) -> int:
    """Count the bytes of what autograd saves in a computation, but for some storages."""
    sizes: dict[int, int] = {}
    kept = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
            # Held, so that no other tensor takes its address.
            kept.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        compute()
    return sum(sizes.values())


def measure_slope(case: Case, kind: Kind, device: torch.device) -> dict[str, float]:
    """Measure the peak with few and more trials, each in a process of its own."""
    peaks = {number: _in_process(case, kind, number, device) for number in SIZES[kind]}
    (few, low), (many, high) = peaks.items()
    slope = (high - low) / (many - few)
    return {
        "per_trial_mb": round(slope / 1e6, 2),
        "fixed_mb": round((low - few * slope) / 1e6, 1),
        **{f"peak_of_{number}_mb": round(peak / 1e6, 1) for number, peak in peaks.items()},
    }


def _in_process(case: Case, kind: Kind, num_trials: int, device: torch.device) -> int:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, case, kind, num_trials, str(device))
    process = context.Process(target=_measure, args=arguments)
    process.start()
    # Without this copy of the other end, receiving ends where the process dies.
    theirs.close()
    peak: int = ours.recv()
    process.join()
    return peak


def _measure(connection: Any, case: Case, kind: Kind, num_trials: int, device_name: str) -> None:
    device = torch.device(device_name)
    run: Run
    if kind == "pack":
        run = Packed(case, num_trials, device, "fp32")
    else:
        run = vmapped(case, num_trials, False, device, "fp32")
    run(2)
    _reset_peak(device)
    run(2)
    connection.send(_peak_bytes(device))


def _reset_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def total_bytes(device: torch.device) -> int:
    """Read how much memory there is, free or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    return 1024 * int(meminfo.split()[1])
