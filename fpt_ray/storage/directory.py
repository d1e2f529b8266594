"""A directory on any pyarrow filesystem: atomic reads and writes."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pyarrow import ArrowException, fs

from fpt_ray.errors import FptRayError
from fpt_ray.storage.remedies import missing_bucket, remedy

_OBJECT_STORES = ("s3", "gcs")
"""Filesystems of pyarrow whose paths begin with the name of a bucket."""

_TEMPORARY_SUFFIX = ".tmp"

_ANYTHING = (
    "check that the place exists, that you may write there, its free space, and its credentials"
)


class Directory:
    """A place for files: a local directory, or a URI such as ``s3://bucket/runs/name``.

    Every write is atomic: a reader sees the former file or the new one, never a part. Local files
    are written beside and renamed; object stores publish an object only when its upload is
    complete.

    Args:
        location: a local path (relative to the working directory, ``~`` allowed) or a URI.

    Raises:
        FptRayError: of ``error_type``; the scheme is unknown or the filesystem out of reach.
    """

    error_type: ClassVar[type[FptRayError]] = FptRayError
    option: ClassVar[str] = "another directory"
    """How a user names another place."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        text = _local_form(os.fspath(location), self.error_type)
        self.local_path: Path | None = None
        if "://" in text:
            self.uri = text
            self._fs, self._base = _filesystem(self.uri, self.error_type)
        else:
            self.local_path = Path(text).expanduser().absolute()
            self.uri = str(self.local_path)
            self._fs, self._base = fs.LocalFileSystem(), str(self.local_path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self._base.rsplit("/", 1)[-1]

    def locate(self, relative: str) -> str:
        """Tell where a file lies, as a path or URI that a user can open."""
        return join(self.uri, relative)

    def probe(self) -> None:
        """Make sure that an object store answers and has the bucket; nothing is written.

        A missing bucket would otherwise read as an empty one, until the first write.

        Raises:
            FptRayError: the store does not answer, refuses the keys, or has no such bucket.
        """
        if self._fs.type_name not in _OBJECT_STORES:
            return
        bucket = self._base.split("/", 1)[0]
        try:
            found = self._fs.get_file_info(bucket)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        if found.type == fs.FileType.NotFound:
            raise self.error_type(
                f"there is no bucket {bucket}",
                where=self.uri,
                fix=f"create it, correct its name, or give another place with {self.option}",
            )

    def exists(self, relative: str = "") -> bool:
        """Tell whether a file or directory exists."""
        try:
            return bool(self._fs.get_file_info(self._path(relative)).type != fs.FileType.NotFound)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def entries(self, relative: str = "") -> list[str]:
        """List the names of a directory's entries, sorted; a missing directory has none."""
        return sorted(info.base_name for info in self._infos(relative))

    def directories(self, relative: str = "") -> list[str]:
        """List the names of the directories in a directory, sorted; stray files are no matter."""
        infos = self._infos(relative)
        return sorted(i.base_name for i in infos if i.type == fs.FileType.Directory)

    def _infos(self, relative: str) -> Sequence[fs.FileInfo]:
        selector = fs.FileSelector(self._path(relative), allow_not_found=True)
        try:
            infos = self._fs.get_file_info(selector)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        return [info for info in infos if info.base_name]

    def read_bytes(self, relative: str) -> bytes | None:
        """Read a whole file, or return None if there is none."""
        try:
            with self._fs.open_input_stream(self._path(relative)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a whole file atomically, creating its directory.

        Raises:
            FptRayError: the place cannot be written; what stood there before stands there
            still.
        """
        path = self._path(relative)
        try:
            if self.local_path is None:
                self._write_object(path, data)
            else:
                _write_local(Path(path), data)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def delete(self, relative: str) -> None:
        """Delete a file; deleting what is not there is no error."""
        try:
            self._fs.delete_file(self._path(relative))
        except FileNotFoundError:
            return
        except (OSError, ArrowException) as error:
            if self.exists(relative):
                raise self._unreachable(error) from error

    def read_json(self, relative: str) -> Any:
        """Read a JSON file, or return None if there is none.

        Raises:
            FptRayError: the file is not JSON.
        """
        data = self.read_bytes(relative)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise self.error_type(
                f"not JSON: {error}", where=self._path(relative), fix=self._fix_json(relative)
            ) from error

    def write_json(self, relative: str, value: Any) -> None:
        """Write a JSON file atomically, readable by people."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(relative, text.encode() + b"\n")

    def sweep_temporaries(self, older_than_s: float = 0.0) -> None:
        """Delete what writers that were killed in the middle of a write left behind.

        Args:
            older_than_s: leave younger files alone, where others may be writing.
        """
        if self.local_path is None:
            return
        for leftover in self.local_path.rglob(f".*{_TEMPORARY_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime >= older_than_s:
                    leftover.unlink()

    def _write_object(self, path: str, data: bytes) -> None:
        try:
            stream = self._fs.open_output_stream(path)
        except FileNotFoundError:
            # Object stores have no directories; the filesystems among pyarrow's URIs do.
            self._fs.create_dir(path.rsplit("/", 1)[0], recursive=True)
            stream = self._fs.open_output_stream(path)
        with stream:
            stream.write(data)

    def _path(self, relative: str) -> str:
        return f"{self._base}/{relative}" if relative else self._base

    def _fix_json(self, relative: str) -> str:
        return "restore the file from a backup, or delete it"

    def _unreachable(self, error: Exception) -> FptRayError:
        return self.error_type(
            f"cannot be read or written: {error}",
            where=self.uri,
            fix=f"{remedy(error) or _ANYTHING}; or give another one with {self.option}",
        )


def _local_form(location: str, error_type: type[FptRayError]) -> str:
    """Write a ``file://`` URI as the path that it names; leave anything else alone.

    Raises:
        FptRayError: as ``error_type``; the URI names another host, or no absolute path.
    """
    if not location.startswith("file://"):
        return location
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise error_type(
            "not a file URI of this machine",
            where=location,
            fix="write file:///absolute/path, or the path alone",
        )
    return unquote(parts.path)


def join(location: str, relative: str) -> str:
    """Append a path to a location; a URI's query stays at its end."""
    path, mark, query = location.partition("?") if "://" in location else (location, "", "")
    return f"{path.rstrip('/')}/{relative}{mark}{query}"


def _filesystem(uri: str, error_type: type[FptRayError]) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, ArrowException) as error:
        if bucket := missing_bucket(error):
            raise error_type(
                f"there is no bucket {bucket}", where=uri, fix="create it, or correct its name"
            ) from error
        raise error_type(
            f"not a storage location that pyarrow can open: {error}",
            where=uri,
            fix=remedy(error)
            or "use a directory, or a URI such as s3://BUCKET/runs or gs://BUCKET/runs",
        ) from error
    return filesystem, path.rstrip("/")


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{_TEMPORARY_SUFFIX}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
