from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fpt_ray.errors import RunDirectoryError
from fpt_ray.storage import Lease, RunDirectory, lease


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "x")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr(lease, "EXPIRES_AFTER_S", 0.3)


def foreign(**changes: Any) -> dict[str, Any]:
    return {
        "token": "other",
        "host": "another-host",
        "pid": 7,
        "pid_namespace": lease._pid_namespace(),
        "process_started": "1",
        "renewals": 1,
        "renewed_at": 0.0,
        "expires_after_s": 20.0,
    } | changes


def test_a_released_lease_leaves_nothing(run: RunDirectory) -> None:
    with Lease(run):
        assert run.exists(RunDirectory.LEASE)
    assert run.entries() == []


def test_a_second_driver_is_refused_and_told_by_whom(run: RunDirectory) -> None:
    with (
        Lease(run),
        pytest.raises(RunDirectoryError, match=rf"process {os.getpid()} on {socket.gethostname()}"),
        Lease(run),
    ):
        pass


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(run: RunDirectory) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = foreign(host=socket.gethostname(), pid=process.pid)
    run.write_json(RunDirectory.LEASE, dead)
    with Lease(run, on_wait=pytest.fail) as held:
        held.check()


def test_a_reused_process_id_is_not_mistaken_for_the_former_driver(run: RunDirectory) -> None:
    run.write_json(RunDirectory.LEASE, foreign(host=socket.gethostname(), pid=os.getpid()))
    with Lease(run, on_wait=pytest.fail):
        pass


@pytest.mark.usefixtures("quick")
def test_a_silent_driver_of_another_host_is_waited_out(run: RunDirectory) -> None:
    run.write_json(RunDirectory.LEASE, foreign())
    said: list[str] = []
    with Lease(run, on_wait=said.append):
        pass
    assert "process 7 on another-host" in said[0]


@pytest.mark.usefixtures("quick")
def test_a_living_driver_of_another_host_is_respected(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_json(RunDirectory.LEASE, foreign())
    renewals = iter(range(2, 100))
    read = RunDirectory.read_json

    def renewed(self: RunDirectory, relative: str) -> Any:
        return read(self, relative) | {"renewals": next(renewals)}

    monkeypatch.setattr(RunDirectory, "read_json", renewed)
    with pytest.raises(RunDirectoryError, match="another driver is using"), Lease(run):
        pass


@pytest.mark.usefixtures("quick")
def test_a_driver_that_lost_its_lease_stops_writing(run: RunDirectory) -> None:
    with Lease(run) as held:
        run.write_json(RunDirectory.LEASE, foreign())
        held._renewer.join(timeout=5)
        with pytest.raises(RunDirectoryError, match="another-host"):
            held.check()
    assert run.read_json(RunDirectory.LEASE)["token"] == "other"


@pytest.mark.usefixtures("quick")
def test_the_lease_is_renewed(run: RunDirectory) -> None:
    assert run.local_path is not None
    file = run.local_path / RunDirectory.LEASE
    with Lease(run):
        first = json.loads(file.read_text())["renewals"]
        while json.loads(file.read_text())["renewals"] == first:
            pass


@pytest.mark.usefixtures("quick")
def test_a_lock_left_by_a_killed_driver_does_not_block(run: RunDirectory) -> None:
    assert run.local_path is not None
    run.local_path.mkdir(parents=True)
    (run.local_path / ".lease.json.lock").touch()
    with Lease(run):
        pass


@pytest.mark.usefixtures("quick")
def test_leases_work_where_there_is_no_exclusive_create() -> None:
    run = RunDirectory("mock:///lease")
    with Lease(run) as held:
        held.check()
