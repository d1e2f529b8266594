"""The connection to Ray, and which of its devices a sweep uses."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ray

from fpt_ray.config import Resources
from fpt_ray.engine.places import Kind
from fpt_ray.errors import FptRayError

_LOCAL = "local"
REACH_TIMEOUT_S = 10.0


@contextlib.contextmanager
def connected(address: str | None, debug: bool, spare_cpu: bool = False) -> Iterator[None]:
    """Connect to a Ray cluster, or start a local one, for the time of the context.

    Args:
        address: ``auto`` (a running cluster, RAY_ADDRESS), ``local`` (start one here), a Ray
            address, or None: a cluster that RAY_ADDRESS names, else a local one.
        debug: show Ray's own messages and those of the trials' processes.
        spare_cpu: start a local Ray with two logical CPUs at least, one of them for Ray Data.

    Raises:
        FptRayError: no cluster answers at the address.
    """
    target = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _reach(target)
        ray.init(
            address=target,
            log_to_driver=debug,
            logging_level=logging.INFO if debug else logging.ERROR,
            **(_local_options(spare_cpu) if target == _LOCAL else {}),
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise FptRayError(
            f"no Ray cluster answers: {error}",
            where=f"address {target}",
            fix="start one (ray start --head), correct --address or RAY_ADDRESS, "
            "or use --address local",
        ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray has put a handler of its own there, which aborts the process.
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _local_options(spare_cpu: bool) -> dict[str, Any]:
    # A local Ray that was killed will not come back; without this the driver would wait a minute
    # for it.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    # Thin trials are more processes than CPUs, of which Ray would warn.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(max(16, _num_cores())))
    return {
        "include_dashboard": False,
        "num_cpus": max(2, _num_cores()) if spare_cpu else None,
        "runtime_env": _quoted_python(),
    }


def _reach(target: str) -> None:
    """Open a connection to an address that names a host and a port; Ray would retry for minutes.

    Raises:
        OSError: nobody listens there.
    """
    host, colon, port = target.rsplit("/", 1)[-1].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()


def _quoted_python() -> dict[str, str] | None:
    """Name this Python to Ray so that a path with spaces survives.

    Ray 2.60 starts workers that have an environment of their own, as Tune's do, through a shell and
    does not quote the interpreter: they never start, and nothing says so.
    """
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable else None


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_kind(wanted: Resources, streams: bool = False) -> Kind:
    """Decide which devices of the cluster a sweep uses: its GPUs, or the CPUs of its machines.

    Args:
        wanted: the sweep's resources.
        streams: a CPU of every machine is left to Ray Data, which would otherwise wait for ever.

    Raises:
        FptRayError: GPUs are asked for and the cluster has none, or no machine has a CPU to spare
            for Ray Data.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    if wanted.device == "cuda" and not has_gpus:
        raise FptRayError(
            "the sweep asks for GPUs and the cluster has none",
            where="resources.device: cuda",
            fix="resources.device: auto (or cpu), or connect to a cluster with GPUs",
        )
    kind: Kind = "cuda" if has_gpus and wanted.device != "cpu" else "cpu"
    # What computes on a GPU asks for a share of a CPU only.
    needed = 2 if kind == "cpu" else 1
    if streams and all(node.get("CPU", 0) < needed for node in nodes):
        raise _nothing_to_spare()
    return kind


def _nothing_to_spare() -> FptRayError:
    return FptRayError(
        "streaming needs a CPU for Ray Data beside the trials, and no machine has two CPUs",
        where="data.mode: streaming",
        fix="data.mode: materialized (or generated, for tasks that are), or machines with 2 CPUs",
    )
