"""One driver per run directory: a lease that its holder renews and that soon ends with it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from fpt_ray.errors import RunDirectoryError
from fpt_ray.storage.run_directory import RunDirectory

RENEW_EVERY_S = 5.0
EXPIRES_AFTER_S = 20.0


class Lease:
    """The exclusive right to write a run directory, held while the context is open.

    A lease whose holder died on this machine is taken over at once. One from another machine is
    taken over when it was not renewed for ``EXPIRES_AFTER_S`` of *our* clock: clocks of two
    machines are never compared.

    Args:
        run: the run directory to hold.
        on_wait: called once with a sentence when the lease of a silent holder must be waited out.

    Raises:
        RunDirectoryError: on entering, when a living driver holds the directory; it says which.
    """

    def __init__(self, run: RunDirectory, on_wait: Callable[[str], None] = lambda _: None) -> None:
        self._run = run
        self._on_wait = on_wait
        self._token = uuid.uuid4().hex
        self._renewals = 0
        self._released = threading.Event()
        self._lost_to: dict[str, Any] | None = None
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        holder = self._read()
        if holder is not None and not _died_here(holder):
            self._outwait(holder)
        self._acquire(holder)
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        self._renewer.join()
        holder = self._read()
        if holder is not None and holder["token"] == self._token:
            self._run.delete(RunDirectory.LEASE)

    def check(self) -> None:
        """Make sure that the lease is still held.

        Raises:
            RunDirectoryError: another driver took it over while this one was suspended.
        """
        if self._lost_to is not None:
            raise self._refusal(self._lost_to)

    def _read(self) -> dict[str, Any] | None:
        content: dict[str, Any] | None = self._run.read_json(RunDirectory.LEASE)
        return content

    def _outwait(self, holder: dict[str, Any]) -> None:
        if _lives_here(holder):
            raise self._refusal(holder)
        self._on_wait(
            f"{self._run.uri} was last used by {_describe(holder)}; waiting up to "
            f"{EXPIRES_AFTER_S:.0f} s to see whether that driver is still alive"
        )
        deadline = time.monotonic() + EXPIRES_AFTER_S
        while time.monotonic() < deadline:
            time.sleep(RENEW_EVERY_S / 10)
            now = self._read()
            if now is None:
                return
            if now != holder:
                raise self._refusal(now)

    def _acquire(self, former: dict[str, Any] | None) -> None:
        if self._run.local_path is not None:
            self._acquire_locally(former)
            return
        # Object stores have no exclusive create in pyarrow, so the last writer wins and the others
        # notice.
        self._write()
        time.sleep(RENEW_EVERY_S / 10)
        holder = self._read()
        if holder is None or holder["token"] != self._token:
            raise self._refusal(holder or {})

    def _acquire_locally(self, former: dict[str, Any] | None) -> None:
        assert self._run.local_path is not None
        self._run.local_path.mkdir(parents=True, exist_ok=True)
        with _exclusively(self._run.local_path / f".{RunDirectory.LEASE}.lock"):
            holder = self._read()
            if holder is not None and holder != former:
                raise self._refusal(holder)
            self._write()

    def _write(self) -> None:
        self._renewals += 1
        self._run.write_json(
            RunDirectory.LEASE,
            {
                "token": self._token,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "pid_namespace": _pid_namespace(),
                "process_started": _process_start(os.getpid()),
                "renewals": self._renewals,
                "renewed_at": time.time(),
                "expires_after_s": EXPIRES_AFTER_S,
            },
        )

    def _renew(self) -> None:
        while not self._released.wait(RENEW_EVERY_S):
            # A store that does not answer for a moment must not end a sweep; the next renewal tries
            # again.
            with contextlib.suppress(RunDirectoryError):
                holder = self._read()
                if holder is not None and holder["token"] != self._token:
                    self._lost_to = holder
                    return
                self._write()

    def _refusal(self, holder: dict[str, Any]) -> RunDirectoryError:
        return RunDirectoryError(
            f"another driver is using this run directory: {_describe(holder)}",
            where=self._run.uri,
            fix="wait until it ends, stop it, or give this sweep another name",
        )


@contextlib.contextmanager
def _exclusively(lock: Path) -> Iterator[None]:
    """Hold a lock file for a moment; an older one was left by a killed process."""
    deadline = time.monotonic() + RENEW_EVERY_S
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                lock.unlink(missing_ok=True)
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _describe(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"


def _on_this_host(holder: dict[str, Any]) -> bool:
    here = (socket.gethostname(), _pid_namespace())
    return (holder.get("host"), holder.get("pid_namespace")) == here


def _lives_here(holder: dict[str, Any]) -> bool:
    return _on_this_host(holder) and _process_start(holder["pid"]) == holder["process_started"]


def _died_here(holder: dict[str, Any]) -> bool:
    return _on_this_host(holder) and not _lives_here(holder)


def _pid_namespace() -> str | None:
    """Name the namespace that process ids count in: containers may share a host's name."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """Read when a process started, so that a reused id is not mistaken for its former owner.

    Returns:
        None for a process that has ended; ``unknown`` where the system does not tell (no
        ``/proc``).
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return "unknown"
        return "unknown"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    # A zombie holds no lease: it has ended and only waits for its parent.
    return None if fields[0] == "Z" else fields[19]
