"""Find MNIST on disk, or download it, and decode it once per node."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fpt_ray.errors import DataError
from fpt_ray.node_cache import cache_dir, write_once
from fpt_ray.tasks.image_files import LabelledImages, hash_files, read_idx, read_parquet

SIDE = 28
NUM_CLASSES = 10

_PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of one published split: an (images, labels) pair, or parquet shards."""

    kind: Literal["idx", "parquet"]
    files: tuple[Path, ...]


def default_data_dir() -> Path:
    """Find the folder that is used where ``data.dir`` is null."""
    return cache_dir() / "data"


def find_mnist(data_dir: Path | None, published_split: Literal["train", "test"]) -> SourceFiles:
    """Find one published split, downloading the data where they are missing.

    Looks for ``MNIST/raw/*-ubyte`` (also gzipped), then for ``SPLIT-*.parquet`` in the folder
    and in its ``mnist``.

    Raises:
        DataError: there is none and it cannot be downloaded.
    """
    folder = data_dir or default_data_dir()
    if found := _look(folder, published_split):
        return found
    # Of the processes of a node that miss the data together, one downloads them.
    cache_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / "download.lock"):
        if _look(folder, published_split) is None:
            _download(folder)
    if found := _look(folder, published_split):
        return found
    raise _missing(folder, "the download left no data")


def hash_mnist(data_dir: Path | None) -> str:
    """Hash both published splits' source files.

    Raises:
        DataError: the files are missing and cannot be downloaded.
    """
    train, test = find_mnist(data_dir, "train"), find_mnist(data_dir, "test")
    return hash_files((*train.files, *test.files))


def load_mnist(data_dir: Path | None, published_split: Literal["train", "test"]) -> LabelledImages:
    """Read one published split, decoded once per node and mapped from the node's cache.

    Returns:
        Images (count, 28, 28) uint8 and labels (count,) in [0, 10).

    Raises:
        DataError: the files are missing or damaged, or are not MNIST's.
    """
    return _load(data_dir or default_data_dir(), published_split)


@lru_cache(maxsize=4)
def _load(data_dir: Path, published_split: Literal["train", "test"]) -> LabelledImages:
    source = find_mnist(data_dir, published_split)
    decoded = cache_dir() / "images" / f"mnist-{hash_files(source.files)}.safetensors"
    write_once(decoded, lambda temporary: _decode(source, temporary))
    with safe_open(str(decoded), framework="pt") as mapped:
        return mapped.get_tensor("images").numpy(), mapped.get_tensor("labels").numpy()


def _decode(source: SourceFiles, target: Path) -> None:
    if source.kind == "idx":
        images, labels = read_idx(*source.files)
    else:
        images, labels = read_parquet(source.files)
    _check(images, labels, where=str(source.files[0]))
    save_file({"images": np.ascontiguousarray(images), "labels": labels}, str(target))


def _check(images: NDArray[np.uint8], labels: NDArray[np.int64], where: str) -> None:
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"images have the shape {images.shape[1:]}, not ({SIDE}, {SIDE})",
            where=where,
            fix="point data.dir at MNIST",
        )
    if len(images) != len(labels):
        raise DataError(
            f"{len(images)} images but {len(labels)} labels",
            where=where,
            fix="fetch the data again",
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise DataError(
            f"labels reach from {labels.min()} to {labels.max()}, not from 0 to {NUM_CLASSES - 1}",
            where=where,
            fix="point data.dir at MNIST",
        )


def _look(folder: Path, published_split: str) -> SourceFiles | None:
    raw = folder / "MNIST" / "raw"
    prefix = _PREFIXES[published_split]
    for suffix in ("", ".gz"):
        pair = tuple(
            raw / f"{prefix}-{part}-ubyte{suffix}" for part in ("images-idx3", "labels-idx1")
        )
        if all(file.is_file() for file in pair):
            return SourceFiles("idx", pair)
    for place in (folder, folder / "mnist"):
        if shards := tuple(sorted(place.glob(f"{published_split}-*.parquet"))):
            return SourceFiles("parquet", shards)
    return None


def _download(folder: Path) -> None:
    # torchvision takes seconds to import and is needed only here.
    from torchvision.datasets import MNIST

    try:
        MNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        # torchvision leaves its empty folders behind, also below a misspelt data.dir.
        for empty in (folder / "MNIST" / "raw", folder / "MNIST", folder):
            with suppress(OSError):
                empty.rmdir()
        raise _missing(folder, f"the download failed ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0].rstrip(":")


def _missing(folder: Path, why: str) -> DataError:
    return DataError(
        f"MNIST is neither in {folder / 'MNIST' / 'raw'} (idx files) nor in {folder} or"
        f" {folder / 'mnist'} ({{train,test}}-*.parquet), and {why}",
        where="data.dir",
        fix="set data.dir to a folder that holds MNIST, or run once with network access",
    )
