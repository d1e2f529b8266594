"""A run directory on any pyarrow filesystem: atomic reads and writes, and its artefacts' names."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pyarrow import ArrowException, fs

from fpt_ray.errors import RunDirectoryError

_TEMPORARY_SUFFIX = ".tmp"


class RunDirectory:
    """One sweep's results, below a local directory or a URI such as ``s3://bucket/runs/name``.

    Every write is atomic: a reader sees the former file or the new one, never a part. Local files
    are written beside and renamed; object stores publish an object only when its upload is
    complete.

    Args:
        location: a local path (relative to the working directory, ``~`` allowed) or a URI.

    Raises:
        RunDirectoryError: the URI's scheme is unknown or its filesystem cannot be reached.
    """

    SWEEP_FILE = "sweep.yaml"
    RESOLVED = "resolved.json"
    ENVIRONMENT = "environment.json"
    LEASE = "lease.json"
    TRIALS = "trials"

    def __init__(self, location: str | os.PathLike[str]) -> None:
        text = _local_form(os.fspath(location))
        self.local_path: Path | None = None
        if "://" in text:
            self.uri = text
            self._fs, self._base = _filesystem(self.uri)
        else:
            self.local_path = Path(text).expanduser().absolute()
            self.uri = str(self.local_path)
            self._fs, self._base = fs.LocalFileSystem(), str(self.local_path)

    @classmethod
    def below(cls, storage: str, name: str) -> RunDirectory:
        """Open the run directory of a sweep.

        Args:
            storage: a directory or a URI, which may end with a query of its filesystem's options.
            name: the sweep's name.
        """
        return cls(_join(storage, name))

    def __repr__(self) -> str:
        return f"RunDirectory({self.uri!r})"

    @property
    def name(self) -> str:
        """The directory's own name, which is the sweep's."""
        return self._base.rsplit("/", 1)[-1]

    def locate(self, relative: str) -> str:
        """Tell where a file lies, as a path or URI that a user can open."""
        return _join(self.uri, relative)

    def config_of(self, trial_id: str) -> str:
        """Name a trial's configuration."""
        return f"{self.TRIALS}/{trial_id}/config.json"

    def log_of(self, trial_id: str) -> str:
        """Name a trial's log of evaluations."""
        return f"{self.TRIALS}/{trial_id}/evaluations.jsonl"

    def state_of(self, trial_id: str) -> str:
        """Name the state that a trial goes on from."""
        return f"{self.TRIALS}/{trial_id}/state.safetensors"

    def best_of(self, trial_id: str) -> str:
        """Name a trial's best parameters."""
        return f"{self.TRIALS}/{trial_id}/best.safetensors"

    def failure_of(self, trial_id: str) -> str:
        """Name the record of a trial that failed after all its retries."""
        return f"{self.TRIALS}/{trial_id}/failure.json"

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
            RunDirectoryError: the place cannot be written; what stood there before stands there
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
            RunDirectoryError: the file is not JSON.
        """
        data = self.read_bytes(relative)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise RunDirectoryError(
                f"not JSON: {error}",
                where=self._path(relative),
                fix="restore the file from a backup, or "
                + (
                    "delete its folder to train that trial anew"
                    if relative.startswith(f"{self.TRIALS}/")
                    else "give the sweep another name"
                ),
            ) from error

    def write_json(self, relative: str, value: Any) -> None:
        """Write a JSON file atomically, readable by people."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(relative, text.encode() + b"\n")

    def sweep_temporaries(self) -> None:
        """Delete what writers that were killed in the middle of a write left behind."""
        if self.local_path is not None:
            for leftover in self.local_path.rglob(f".*{_TEMPORARY_SUFFIX}"):
                leftover.unlink(missing_ok=True)

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

    def _unreachable(self, error: Exception) -> RunDirectoryError:
        return RunDirectoryError(
            f"cannot be read or written: {error}",
            where=self.uri,
            fix="check that the place exists, that you may write there, and its credentials; "
            "or give another one with --storage",
        )


def _local_form(location: str) -> str:
    """Write a ``file://`` URI as the path that it names; leave anything else alone.

    Raises:
        RunDirectoryError: the URI names another host, or no absolute path.
    """
    if not location.startswith("file://"):
        return location
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise RunDirectoryError(
            "not a file URI of this machine",
            where=location,
            fix="write file:///absolute/path, or the path alone",
        )
    return unquote(parts.path)


def _join(location: str, relative: str) -> str:
    """Append a path to a location; a URI's query stays at its end."""
    path, mark, query = location.partition("?") if "://" in location else (location, "", "")
    return f"{path.rstrip('/')}/{relative}{mark}{query}"


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, ArrowException) as error:
        raise RunDirectoryError(
            f"not a storage location that pyarrow can open: {error}",
            where=uri,
            fix="use a directory, or a URI such as s3://BUCKET/runs or gs://BUCKET/runs",
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
