"""Submit a command to a Ray cluster as a job, or follow the job that runs it already.

    python submit.py python -m fpt_ray.sweep sweeps/cluster.yaml

Killed and started again, it finds its job at work and follows it. `ray job submit` would start a
second driver beside the first, which the run directory's lease refuses. The cluster is found as
`ray job` finds it: RAY_API_SERVER_ADDRESS, RAY_AUTH_MODE and RAY_AUTH_TOKEN.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

POLL_EVERY_S = 1.0


def find_or_submit(client: Any, entrypoint: str) -> str:
    """Name the job that runs a command now; submit it where none does.

    Args:
        client: a ``JobSubmissionClient``.
        entrypoint: the command.
    """
    for job in client.list_jobs():
        if job.entrypoint == entrypoint and not job.status.is_terminal():
            print(f"following {job.submission_id}, which runs already: {entrypoint}", flush=True)
            return str(job.submission_id)
    submitted = str(client.submit_job(entrypoint=entrypoint))
    print(f"submitted {submitted}: {entrypoint}", flush=True)
    return submitted


async def follow(client: Any, job: str) -> bool:
    """Print a job's log until it ends; tell whether it succeeded."""
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)
    while not (status := client.get_job_status(job)).is_terminal():
        time.sleep(POLL_EVERY_S)
    print(f"{job}: {status.value}")
    return str(status.value) == "SUCCEEDED"


def main(words: Sequence[str]) -> int:
    """Run the command on the cluster.

    Returns:
        0 if it succeeds, 1 if it does not, 130 if interrupted: it goes on without this.
    """
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient()
    job = find_or_submit(client, shlex.join(words))
    try:
        return 0 if asyncio.run(follow(client, job)) else 1
    except (RuntimeError, OSError) as error:
        print(f"lost {job}: {error}; start this again to look whether it runs", flush=True)
        return 1
    except KeyboardInterrupt:
        print(f"{job} goes on; to stop it: ray job stop {job}", flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
