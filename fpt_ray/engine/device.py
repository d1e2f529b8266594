"""The device that an engine owns: which it is, what memory it has, and how it fails."""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from fpt_ray.errors import TrialError

_CPU_CANNOT_ALLOCATE = "can't allocate memory"
"""How torch's CPU allocator words what on a GPU is an OutOfMemoryError (torch 2.14)."""

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Choice:
    """The device of an engine.

    Attributes:
        device: where it computes.
        warning: what a user should know about it, if anything.
        refusal: why nothing can be trained, if so: an engine that died of it would be replaced by
            the next one that does.
    """

    device: torch.device
    warning: str | None = None
    refusal: TrialError | None = None


def choose_device(wanted: str, was_given_gpu: bool) -> Choice:
    """Choose an engine's device, of those that it sees.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.
        was_given_gpu: whether Ray has given it a GPU.
    """
    if wanted != "cpu" and torch.cuda.is_available():
        return Choice(torch.device("cuda", 0))
    if wanted == "cuda":
        refusal = _no_gpu()
        return Choice(torch.device("cpu"), str(refusal), refusal)
    if wanted == "auto" and was_given_gpu:
        return Choice(torch.device("cpu"), "torch sees no GPU where Ray gave one: CPUs are used")
    return Choice(torch.device("cpu"))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was too little, so that less can work."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_CANNOT_ALLOCATE in str(error)


def is_fatal(error: BaseException) -> bool:
    """Tell whether the process has lost its GPU: from such an error on, every call fails."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def release_memory(device: torch.device) -> None:
    """Give back what no tensor uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> float:
    """Tell how much memory can still be taken: of a GPU what torch holds unused counts too."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_machine_bytes(), _container_bytes())


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far; that of a process on a CPU cannot be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Tell the most memory that was in use, since ``reset_peak`` where it is a GPU's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _no_gpu() -> TrialError:
    return TrialError(
        "torch sees no GPU where Ray says that there is one",
        where="resources.device: cuda",
        fix="check nvidia-smi and torch.cuda.is_available() there, and that this torch is built"
        " for CUDA; or use resources.device: cpu",
    )


def _machine_bytes() -> int:
    """Tell how much memory the machine has left, or has at all where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024


def _container_bytes() -> float:
    """Tell how much memory the container has left; infinity where there is no limit."""
    try:
        limit, used = (
            int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):
        return math.inf
    return limit - used
