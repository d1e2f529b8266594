from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum

import pytest

from tests.containers.files import load_script

submit = load_script("submit")
COMMAND = "python -m fpt_ray.sweep sweeps/cluster.yaml"


class Status(Enum):
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"

    def is_terminal(self) -> bool:
        return self is not Status.RUNNING


@dataclass
class Job:
    submission_id: str | None
    entrypoint: str
    status: Status


@dataclass
class Client:
    """A job server whose jobs end with what they are given."""

    jobs: list[Job] = field(default_factory=list)
    ends: list[Status] = field(default_factory=lambda: [Status.SUCCEEDED])

    def list_jobs(self) -> list[Job]:
        return self.jobs

    def submit_job(self, entrypoint: str) -> str:
        self.jobs.append(Job(f"job-{len(self.jobs)}", entrypoint, Status.RUNNING))
        return f"job-{len(self.jobs) - 1}"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield "checking 2 arms\n"
        yield "starting Ray\n"

    def get_job_status(self, job: str) -> Status:
        return self.ends.pop(0)


@pytest.mark.parametrize("ended", [Status.STOPPED, Status.FAILED, Status.SUCCEEDED])
def test_a_command_that_does_not_run_is_submitted(ended: Status) -> None:
    others = [
        Job("other", "python other.py", Status.RUNNING),
        Job(None, "a driver", Status.RUNNING),
    ]
    client = Client([Job("former", COMMAND, ended), *others])
    assert submit.find_or_submit(client, COMMAND) == "job-3"
    assert client.jobs[-1].entrypoint == COMMAND


def test_a_command_that_runs_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client([Job("former", COMMAND, Status.STOPPED), Job("now", COMMAND, Status.RUNNING)])
    assert submit.find_or_submit(client, COMMAND) == "now"
    assert len(client.jobs) == 2
    assert "following now, which runs already" in capsys.readouterr().out


def test_a_cluster_that_vanishes_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vanishing(Client):
        def get_job_status(self, job: str) -> Status:
            raise ConnectionError("refused")

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Vanishing)
    assert submit.main(COMMAND.split()) == 1
    told = "lost job-0: refused; start this again to look whether it runs"
    assert capsys.readouterr().out.splitlines()[-1] == told


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.STOPPED])
def test_a_job_is_followed_to_its_end(
    end: Status, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "POLL_EVERY_S", 0.0)
    client = Client(ends=[Status.RUNNING, end])
    assert asyncio.run(submit.follow(client, "now")) == (end is Status.SUCCEEDED)
    assert capsys.readouterr().out == f"checking 2 arms\nstarting Ray\nnow: {end.value}\n"
