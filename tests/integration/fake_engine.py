"""An engine without torch: it counts steps in a directory that all engines share."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import ray

from fpt_ray.errors import TrialError

STEPS_EACH = 10


class FakeEngine:
    """Answers as an engine does. ``delivery`` says how many seconds an evaluation takes."""

    def __init__(
        self, run: str, delivery: Any, device: str, metric: str, pack: Any, num_threads: int
    ) -> None:
        self._run = Path(run)
        self._seconds = float(delivery["seconds"])
        self._size = None if pack == "auto" else pack
        self._num_threads = num_threads
        self._sessions: dict[str, str] = {}
        self.renewed: list[str] = []
        self.left: list[str] = []
        if delivery.get("broken"):
            raise TrialError("this engine cannot start")

    async def advance(self, order: dict[str, Any]) -> dict[str, Any]:
        trial = order["trial_id"]
        self._sessions[trial] = order["session"]
        if order["settings"]["training"]["batch_size"] == 13:
            raise TrialError("thirteen", where=f"trial {trial}", fix="another number")
        await asyncio.sleep(self._seconds)
        self._size = self._size or 2
        file = self._run / f"{trial}.json"
        rows = json.loads(file.read_text()) if file.exists() else []
        step = (rows[-1]["step"] if rows else 0) + STEPS_EACH
        node = ray.get_runtime_context().get_node_id()
        row = {"step": step, "engine": os.getpid(), "session": order["session"], "node": node}
        file.write_text(json.dumps([*rows, row]))
        return row | {"threads": self._num_threads, "has_torch": "torch" in sys.modules}

    async def renew(self, trial_id: str) -> None:
        self.renewed.append(trial_id)

    async def leave(self, trial_id: str) -> None:
        self.left.append(trial_id)
        self._sessions.pop(trial_id, None)

    async def status(self) -> dict[str, Any]:
        return {
            "trials": list(self._sessions),
            "size": self._size,
            "device": "cpu",
            "pid": os.getpid(),
            "steps": 0,
            "limits": {},
            "warning": None,
            "renewed": self.renewed,
            "left": self.left,
        }
