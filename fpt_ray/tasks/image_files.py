"""Read labelled images from files, in torchvision's layout or as on the public hub."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from fpt_ray.errors import DataError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")

LabelledImages = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (count, height, width[, channels]) and labels (count,)."""


def read_idx(images: Path, labels: Path) -> LabelledImages:
    """Read a pair of files in the format of the MNIST database, gzipped or not.

    Raises:
        DataError: a file is cut short or is not in this format.
    """
    return _read_idx_array(images), _read_idx_array(labels).astype(np.int64)


def read_parquet(files: Sequence[Path]) -> LabelledImages:
    """Read images that a parquet column holds as encoded files, with their labels.

    Raises:
        DataError: a column is missing, or an image cannot be decoded.
    """
    try:
        table = pa.concat_tables(pq.read_table(file) for file in files)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(files[0], f"is no readable parquet file ({error})") from error
    encoded = _column(table, IMAGE_COLUMNS, files[0])
    labels = _column(table, LABEL_COLUMNS, files[0]).to_numpy().astype(np.int64)
    try:
        images = np.stack([_decode(cell) for cell in encoded.to_pylist()])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(files[0], f"holds an image that cannot be decoded ({error})") from error
    return images, labels


def hash_files(files: Sequence[Path]) -> str:
    """Hash files' contents with SHA-256, once per process while they stay unchanged."""
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(_hash_file(file, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _hash_file(file: Path, size: int, mtime_ns: int) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _read_idx_array(file: Path) -> NDArray[np.uint8]:
    opener = gzip.open if file.suffix == ".gz" else Path.open
    try:
        with opener(file, "rb") as stream:
            raw = stream.read()
    except (OSError, EOFError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise _damaged(file, "is not an idx file of bytes")
    num_dimensions = raw[3]
    shape = np.frombuffer(raw[4 : 4 + 4 * num_dimensions], dtype=">u4").astype(int)
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * num_dimensions)
    if values.size != np.prod(shape):
        raise _damaged(file, f"holds {values.size} values where its header says {np.prod(shape)}")
    return values.reshape(shape)


def _column(table: pa.Table, names: Sequence[str], file: Path) -> pa.ChunkedArray:
    for name in names:
        if name in table.column_names:
            return table[name]
    found = ", ".join(table.column_names)
    raise _damaged(file, f"has no column {' or '.join(names)}; it has {found}")


def _decode(cell: dict[str, bytes] | bytes) -> NDArray[np.uint8]:
    encoded = cell["bytes"] if isinstance(cell, dict) else cell
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image, dtype=np.uint8)


def _damaged(file: Path, what: str) -> DataError:
    return DataError(what, where=str(file), fix="delete the file and fetch it again")
