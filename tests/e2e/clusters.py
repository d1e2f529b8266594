"""Ray clusters of a test's own: with a token, on ports of their own, ended by their handles."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e.conftest import wait_until

RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE_BYTES = 300_000_000


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class Cluster:
    """A Ray cluster of this test's own."""

    address: str
    environment: dict[str, str]

    def job(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start ``ray job ...`` and do not wait."""
        verb, *rest = arguments
        return subprocess.Popen(
            [RAY, "job", verb, "--address", self.address, *rest],
            env=self.environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def running_cluster(
    environment: Mapping[str, str], cwd: Path | None = None, num_workers: int = 0
) -> Iterator[Cluster]:
    """Run a head and workers on this machine.

    Args:
        environment: of all their processes; a token is added.
        cwd: where they are started, and so where jobs run that bring no working directory.
        num_workers: where there are any, they have two CPUs each, and the head none.
    """
    gcs, dashboard, client = free_ports(3)
    common = {
        **environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    common.pop("RAY_ADDRESS", None)
    head = [
        *("--head", f"--port={gcs}", f"--num-cpus={0 if num_workers else 2}"),
        *("--disable-usage-stats", f"--dashboard-port={dashboard}"),
        f"--ray-client-server-port={client}",
    ]
    address = f"http://127.0.0.1:{dashboard}"
    with contextlib.ExitStack() as stack:
        # The path of a Unix socket has at most 107 characters, too few for pytest's own folders.
        scratch = tempfile.mkdtemp(prefix="ray")
        # Some of Ray's processes write for a moment longer than their machine runs.
        stack.callback(wait_until, partial(_removed, scratch))
        machines: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, machines)
        start = partial(_start, machines, common, cwd, scratch)
        start(head)
        # As compose.yaml's health checks ask, who have no token.
        wait_until(partial(_answers, f"{address}/api/gcs_healthz"))
        for number in range(num_workers):
            # Ray's own choice of ports is for one machine a host.
            first = 21_000 + 1_000 * number
            ports = [f"--min-worker-port={first}", f"--max-worker-port={first + 999}"]
            health = start([f"--address=127.0.0.1:{gcs}", "--num-cpus=2", *ports])
            wait_until(partial(_answers, health))
        ready = Cluster(address, common)
        # The server answers before it takes jobs.
        wait_until(lambda: ready.job("list").wait() == 0)
        yield ready


def _start(
    machines: list[subprocess.Popen[bytes]],
    environment: dict[str, str],
    cwd: Path | None,
    scratch: str,
    arguments: list[str],
) -> str:
    """Start a machine and note it; return the address of its health check."""
    agent, metrics = free_ports(2)
    process = subprocess.Popen(
        [
            *(RAY, "start", "--block", *arguments, f"--temp-dir={scratch}"),
            *("--node-ip-address=127.0.0.1", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
        ],
        env=environment,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    machines.append(process)
    return f"http://127.0.0.1:{agent}/api/healthz"


def _end(machines: list[subprocess.Popen[bytes]]) -> None:
    """Tell all machines to end before the first is waited for."""
    for machine in machines:
        machine.terminate()
    for machine in machines:
        machine.wait(timeout=60)


def _removed(folder: str) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not Path(folder).exists()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True
