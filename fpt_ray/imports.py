"""Import large packages, and end with them, without looking for garbage on the way."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
from collections.abc import Iterator

_SPINS = 10_000
"""Rounds that a thread of torch looks whether the others are ready, before it sleeps."""


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Import torch, transformers or Ray Tune inside, in four fifths of the time.

    Their hundred thousands of objects make the collector run again and again, and once more when
    the process ends; nothing of what they are is ever garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Have this process end without a last search for garbage, which takes more than a second."""
    atexit.register(gc.freeze)


def share_cores() -> None:
    """Have threads of torch that wait for each other sleep soon; call it before torch is imported.

    By default they spin for milliseconds, on cores that other processes need: two that compute on
    the same two cores took 4 to 12 times as long as one alone, and 1.7 to 2.4 times after this
    call; for one alone no difference rose above the noise (by hand). What the user has set stays.

    Source: GOMP_SPINCOUNT in GNU's libgomp manual, https://gcc.gnu.org/onlinedocs/libgomp/.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))
