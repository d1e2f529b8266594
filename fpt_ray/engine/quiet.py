"""Measure on CPUs while nobody else needs them: others would be taken for slowness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

PATIENCE_S = 10.0
"""How long one ``Quiet`` puts up with others, all its measurements together."""
_PAUSE_S = 0.5
_NOTICED = 0.15
"""The share of all CPUs that others may have."""
_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since some moment.

    Attributes:
        own_s: of this process.
        others_s: of all other processes of the machine.
        idle_s: of nobody.
    """

    own_s: float
    others_s: float
    idle_s: float

    def since(self, before: Usage) -> Usage:
        """Give what was used after an earlier moment."""
        return Usage(
            self.own_s - before.own_s,
            self.others_s - before.others_s,
            self.idle_s - before.idle_s,
        )

    @property
    def is_disturbed(self) -> bool:
        """Whether others had a part of CPUs of which none was left."""
        total = self.own_s + self.others_s + self.idle_s
        return self.others_s > _NOTICED * total and self.idle_s < _NOTICED * total


def read_usage() -> Usage | None:
    """Read the use of this machine's CPUs; None where the system does not tell."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, idle, iowait, *rest = (int(f) / os.sysconf("SC_CLK_TCK") for f in fields)
    own = time.process_time()
    return Usage(own, user + nice + system + sum(rest[:3]) - own, idle + iowait)


class Quiet:
    """Repeats measurements that others have disturbed, as long as its patience lasts.

    Args:
        device: where is computed; on a GPU the CPUs do not matter.
        read: reads the use of CPUs.
        sleep: waits for seconds.

    Attributes:
        gave_up: whether something was returned that others have disturbed.
    """

    def __init__(
        self,
        device: torch.device,
        read: Callable[[], Usage | None] = read_usage,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.device = device
        self.gave_up = False
        self._read = read
        self._sleep = sleep
        self._patience_s = PATIENCE_S if device.type == "cpu" else 0.0

    def measure(self, run: Callable[[], float]) -> float:
        """Run something until nobody disturbs it; return the least of what it returned."""
        best = float("inf")
        while True:
            before, began = self._read(), time.monotonic()
            best = min(best, run())
            after = self._read()
            if before is None or after is None or not after.since(before).is_disturbed:
                return best
            self._patience_s -= time.monotonic() - began
            if self._patience_s <= 0:
                self.gave_up = self.device.type == "cpu"
                return best
            self._sleep(_PAUSE_S)
            self._patience_s -= _PAUSE_S
