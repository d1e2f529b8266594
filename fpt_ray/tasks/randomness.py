"""Random bits and numbers that stay the same across machines and numpy versions.

numpy promises the raw output of a bit generator, not the streams of ``Generator``'s methods, so
everything here is made from raw 64-bit words.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def random_words(seed: int, count: int) -> NDArray[np.uint64]:
    """Draw ``count`` independent 64-bit words."""
    return np.asarray(np.random.PCG64(seed).random_raw(count), dtype="<u8")


def random_signs(seed: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Draw fair coin flips as -1 and +1."""
    count = math.prod(shape)
    words = random_words(seed, -(-count // 64))
    bits = np.unpackbits(words.view(np.uint8))[:count].astype(np.int8)
    return (2 * bits - 1).reshape(shape)


def random_events(seed: int, probability: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw independent events of the given probability, resolved to 2**-16."""
    count = math.prod(shape)
    draws = random_words(seed, -(-count // 4)).view("<u2")[:count]
    return (draws < round(probability * 2**16)).reshape(shape)


def random_indices(seed: int, upper: int, count: int) -> NDArray[np.int64]:
    """Draw ``count`` integers in [0, upper); their bias is below upper / 2**64."""
    return (random_words(seed, count) % np.uint64(upper)).astype(np.int64)


def random_order(seed: int, count: int) -> NDArray[np.int64]:
    """Draw a permutation of ``count`` things."""
    return np.argsort(random_words(seed, count), kind="stable")
