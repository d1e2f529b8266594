"""How fast the device multiplies matrices on which this machine would train."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import torch

BUDGET_S = 0.3
_SIZES = {"cpu": (512, 768, 3072), "cuda": (4096, 4096, 4096)}
_UTILISATION = {"cpu": 0.5, "cuda": 0.3}


@dataclass(frozen=True, slots=True)
class Machine:
    """A device's speed, as an estimate of device-hours assumes it.

    Attributes:
        device: in words.
        flops_per_s: rate of a large matrix product.
        utilisation: share of that rate that training is assumed to reach, in (0, 1].
    """

    device: str
    flops_per_s: float
    utilisation: float

    def hours(self, operations: float) -> float:
        """Estimate the device-hours of a number of floating-point operations."""
        return operations / (self.flops_per_s * self.utilisation) / 3600

    @property
    def assumption(self) -> str:
        """Say in a sentence what the estimate assumes."""
        return (
            f"{self.utilisation:.0%} of the {self.flops_per_s / 1e12:.3g} TFLOP/s that a large"
            f" matrix product reached on {self.device}"
        )


def measure(precision: Literal["fp32", "bf16"] = "fp32", wanted: str = "auto") -> Machine:
    """Measure the device that would be used, for less than half a second on a CPU.

    Args:
        precision: of the forward pass; on a CPU everything is computed in fp32.
        wanted: auto, cpu or cuda; auto takes a GPU if there is one.
    """
    kind = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if precision == "bf16" and kind == "cuda" else torch.float32
    rows, inner, columns = _SIZES[kind]
    left = torch.ones(rows, inner, device=kind, dtype=dtype)
    right = torch.ones(inner, columns, device=kind, dtype=dtype)
    fastest_s = _fastest(left, right)
    return Machine(_name(kind), 2 * rows * inner * columns / fastest_s, _UTILISATION[kind])


def _fastest(left: torch.Tensor, right: torch.Tensor) -> float:
    """Time the product again and again; the fastest is the least disturbed by other work."""
    _timed(left, right)
    times = [_timed(left, right)]
    while sum(times) < BUDGET_S and len(times) < 100:
        times.append(_timed(left, right))
    return min(times)


def _timed(left: torch.Tensor, right: torch.Tensor) -> float:
    started = perf_counter()
    product = left @ right
    # Reading a number waits for the device.
    product[0, 0].item()
    return perf_counter() - started


def _name(kind: str) -> str:
    if kind == "cuda":
        return f"one {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"this machine's CPU with {threads} thread{'s' if threads > 1 else ''}"
