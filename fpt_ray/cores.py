"""What torch's libraries are told about a CPU, by the environment; before torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

_SPINS = 10_000
"""Rounds that a thread of torch looks whether the others are ready, before it sleeps."""
_CPU_INFO = Path("/proc/cpuinfo")


def prepare_cores() -> None:
    """Have a process train packs beside others, and trials the same in every pack.

    Call it before torch is imported. What the user has set stays.
    """
    _share_cores()
    _round_alike()


def _share_cores() -> None:
    """Have threads of torch that wait for each other sleep soon.

    By default they spin for milliseconds, on cores that other processes need: two that compute on
    the same two cores took 4 to 12 times as long as one alone, and 1.7 to 2.4 times after this
    call; for one alone no difference rose above the noise (by hand).

    Source: GOMP_SPINCOUNT in GNU's libgomp manual, https://gcc.gnu.org/onlinedocs/libgomp/.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))


def _round_alike() -> None:
    """Have matrix products round a row alike, whatever the number of rows.

    By default MKL adds in another order when there are more of them, so that a trial's last bits
    depend on how many train with it. Its strict mode promises equal bits for any number of threads;
    that they are equal for any number of rows, too, was seen and is tested. It took between nothing
    and 6 % of a pack's speed (by hand). Elsewhere than on Intel's processors its cost is unknown,
    and nothing is changed.

    Source: Intel, developer guide of oneMKL, "Obtaining Numerically Reproducible Results", strict
    CNR mode.
    """
    if made_by_intel():
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def made_by_intel() -> bool:
    """Tell whether this machine's processor is one of Intel's; False where Linux does not say."""
    try:
        return "GenuineIntel" in _CPU_INFO.read_text()
    except OSError:
        return False
