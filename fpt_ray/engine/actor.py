"""The actor that owns one device. Nothing heavy is imported before it is made."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Literal

from fpt_ray.cores import prepare_cores
from fpt_ray.imports import large_imports

if TYPE_CHECKING:
    from fpt_ray.data.deliver import Delivery
    from fpt_ray.engine.loop import EngineLoop
    from fpt_ray.training import Metric


class Engine:
    """Train trials on one device, many at a time; an actor class, as it is before ``ray.remote``.

    Trials ask for one evaluation after another with ``advance``. A trial belongs to the process
    that named its ``session`` last: while that process renews, the trial is kept, also between
    two requests.

    Args:
        run: the sweep's run directory.
        delivery: how data reach the trials.
        device: ``auto``, ``cpu`` or ``cuda``; an engine sees one GPU at most.
        metric: by which best parameters are chosen, and results delivered best first.
        pack: trials in a pack at most; ``auto`` measures how many pay.
        num_threads: threads that compute on a CPU.
    """

    def __init__(
        self,
        run: str,
        delivery: Delivery,
        device: str,
        metric: Metric,
        pack: Literal["auto"] | int,
        num_threads: int,
    ) -> None:
        prepare_cores()
        with large_imports():
            from fpt_ray.engine.device import choose_device
            from fpt_ray.engine.workshop import Workshop, start, was_given_gpu
            from fpt_ray.storage import RunDirectory
            from fpt_ray.training import Shelf

        choice = choose_device(device, was_given_gpu())
        workshop = Workshop(RunDirectory(run), delivery, choice.device, metric, Shelf())
        self._loop: EngineLoop = start(workshop, pack, num_threads)
        self._warning = choice.warning
        if choice.refusal is not None:
            self._loop.refuse(choice.refusal)

    async def advance(self, order: dict[str, Any]) -> dict[str, Any]:
        """Train a trial to its next evaluation that is not in its log, and save it.

        Args:
            order: ``trial_id``, ``stage``, ``arm``, ``seed``, ``settings``, and ``session``, a
                name that is new with every process that owns the trial.

        Returns:
            What the log keeps of an evaluation, sequence and decision aside; finalists at their
            last step also carry the measures of the test split.

        Raises:
            FptRayError: the trial failed, or was dropped because nobody renewed it.
        """
        return await asyncio.wrap_future(self._loop.submit(order))

    async def renew(self, trial_id: str) -> None:
        """Say that a trial's owner lives; a trial that the engine does not know is ignored."""
        self._loop.renew(trial_id)

    async def leave(self, trial_id: str) -> None:
        """Say that a trial is not needed any more; a request of it that is pending fails."""
        self._loop.leave(trial_id)

    async def status(self) -> dict[str, Any]:
        """Describe the engine.

        Returns:
            ``trials`` (ids of those it holds), ``size`` (trials in a pack; None before it was
            measured), ``limits`` (the size of each kind of pack that was met), ``device``,
            ``pid``, ``steps`` (steps of all trials together) and ``warning`` (a text, or None).
        """
        return self._loop.status() | {"pid": os.getpid(), "warning": self._warning}
