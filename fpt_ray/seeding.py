"""Named seeds: every random stream of a sweep is derived from one root seed and a name."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *names: str | int) -> int:
    """Derive an independent seed for a named random stream.

    Equal arguments give equal seeds on every machine and Python version; any other root or name
    gives an unrelated one, so streams can be added without disturbing those that exist.

    Args:
        root: the seed to derive from, for example the sweep's or a trial's.
        names: the path of the stream, for example ``"final", 2``.

    Returns:
        An integer in [0, 2**63), as torch and numpy take it.
    """
    path = repr((int(root), *names)).encode()
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest()) >> 1


def trial_seed(sweep_seed: int, stage: str, index: int) -> int:
    """Derive the seed of a trial: short enough to be read and typed, in [0, 2**31).

    Args:
        sweep_seed: the ``seed`` of the sweep file.
        stage: ``tune`` or ``final``.
        index: which of the stage's seeds, from 0; shared by all arms.
    """
    return derive_seed(sweep_seed, stage, index) >> 32
