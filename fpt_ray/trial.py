"""The Tune trainable: a thin trial, which has an engine train for it.

Its process imports neither torch nor anything that does: a sweep has one of them for every trial
that is alive.
"""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError

RENEW_EVERY_S = 5.0
LEAVE_TIMEOUT_S = 5.0

MEMORY_BYTES = 130_000_000
"""What the process of a thin trial holds for itself; all that it asks of Ray."""


class TrialTrainable(tune.Trainable):
    """What Ray Tune runs: every ``step`` is one evaluation interval of a trial.

    Tune saves no checkpoints: a trial's state lies in the run directory, where it outlives Tune. A
    process goes on to the next trial without being started anew.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for memory alone: devices belong to the engines."""
        return tune.PlacementGroupFactory([{"memory": MEMORY_BYTES}])

    def setup(self, config: dict[str, Any]) -> None:
        """Take the trial that Tune hands out.

        Args:
            config: ``trial`` (trial_id, stage, arm, seed and settings) and ``pool`` (the name of
                the sweep's pool).
        """
        self._trial: dict[str, Any] = config["trial"]
        self._pool: Any = ray.get_actor(config["pool"])
        self._engine: Any = None
        self._engine_name: str | None = None
        self._session = ""
        self._progressed = False

    def step(self) -> dict[str, Any]:
        """Have the trial advanced by one evaluation, on another engine where one dies.

        Returns:
            What the engine says of the evaluation.

        Raises:
            FptRayError: the trial failed, or engines died under it again and again.
        """
        lost = None
        while True:
            engine = self._find_engine(lost)
            try:
                result = self._wait(engine.advance.remote(self._order()))
            except RayTaskError as error:
                raise _cause(error) from None
            except RayError:
                lost = self._engine_name
            else:
                self._progressed = True
                return result

    def _order(self) -> dict[str, Any]:
        return {**self._trial, "session": self._session}

    def _find_engine(self, lost: str | None) -> Any:
        """Ask the pool for an engine, and take leave of the former one where it lives."""
        asked = self._pool.engine_for.remote(self._order(), lost, self._progressed)
        try:
            name, engine = ray.get(asked)
        except RayTaskError as error:
            raise _cause(error) from None
        self._progressed = False
        if name != self._engine_name or lost is not None:
            if lost is None:
                self._leave()
            self._engine, self._engine_name, self._session = engine, name, uuid.uuid4().hex
        return engine

    def _wait(self, pending: Any) -> dict[str, Any]:
        """Wait for a result, and tell the engine again and again that somebody does."""
        while not ray.wait([pending], timeout=RENEW_EVERY_S)[0]:
            if self._engine is not None:
                self._engine.renew.remote(self._trial["trial_id"])
        result: dict[str, Any] = ray.get(pending)
        return result

    def _leave(self) -> None:
        if self._engine is not None:
            left: Any = self._engine.leave.remote(self._trial["trial_id"])
            ray.wait([left], timeout=LEAVE_TIMEOUT_S)
            self._engine = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another trial in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Tell the engine and the pool that the trial has ended."""
        self._leave()
        ray.wait([self._pool.release.remote(self._trial["trial_id"])], timeout=LEAVE_TIMEOUT_S)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the state is saved with every evaluation, in the run directory."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Do nothing: the engine loads the state that it finds in the run directory."""


def _cause(error: RayTaskError) -> BaseException:
    """Find what was raised in another process, as it was raised there."""
    cause: BaseException | None = error.cause
    return error if cause is None else cause
