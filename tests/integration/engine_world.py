"""Small trials for engines, and what they give when each trains alone."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from typing import Any

from fpt_ray.config import TrialSettings
from fpt_ray.records import EvaluationRecord
from fpt_ray.storage import RunDirectory
from fpt_ray.training import build_trainer, train

PATIENCE_S = 120.0
METRIC = "validation_accuracy"
MEASURES = ("train_loss", "validation_loss", "validation_accuracy")
TIMES = ("train_s", "wall_s")
SETTINGS: dict[str, Any] = {
    "task": {"name": "bit_xor", "length": 2},
    "model": {"backbone": "tiny-bert", "init": "random", "trained": ["all"]},
    "training": {
        "batch_size": 4,
        "max_steps": 20,
        "eval_every": 5,
        "validation_size": 16,
        "test_size": 16,
        "dropout": 0.0,
    },
}

_sessions = itertools.count()


def order(
    trial_id: str = "t",
    stage: str = "tune",
    model: dict[str, Any] | None = None,
    task: dict[str, Any] | None = None,
    seed: int = 7,
    **training: Any,
) -> dict[str, Any]:
    """Order a trial in the name of a process that nobody has heard of."""
    given = {
        "task": SETTINGS["task"] | (task or {}),
        "model": SETTINGS["model"] | (model or {}),
        "training": SETTINGS["training"] | training,
    }
    return {
        "trial_id": trial_id,
        "stage": stage,
        "arm": "default",
        "seed": seed,
        "settings": TrialSettings.model_validate(given).model_dump(mode="json"),
        "session": f"s{next(_sessions)}",
    }


def alone(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a trial with ``Trainer``, undisturbed; return its evaluations."""
    settings = TrialSettings.model_validate(described["settings"])
    trainer = build_trainer(settings, described["seed"])
    every = settings.training.eval_every
    return [{n: getattr(e, n) for n in ("step", *MEASURES)} for e in train(trainer, every)]


def commit(run: RunDirectory, trial_id: str, result: dict[str, Any]) -> None:
    """Log an evaluation as the driver does."""
    names = {f for f in EvaluationRecord.__dataclass_fields__ if f in result}
    record = EvaluationRecord(
        sequence=0, decision="continue", **{name: result[name] for name in names}
    )
    log = run.read_bytes(run.log_of(trial_id)) or b""
    run.write_bytes(run.log_of(trial_id), log + record.to_line().encode())


def follow(
    loop: Any, run: RunDirectory, orders: list[dict[str, Any]], num_results: int = 100
) -> dict[str, list[dict[str, Any]]]:
    """Ask for the results of trials, all at a time, until they end, and log them."""
    found: dict[str, list[dict[str, Any]]] = {each["trial_id"]: [] for each in orders}
    waiting: dict[str, tuple[dict[str, Any], Future[dict[str, Any]]]] = {
        each["trial_id"]: (each, loop.submit(each)) for each in orders
    }
    while waiting:
        trial_id, (asked, request) = next(iter(waiting.items()))
        del waiting[trial_id]
        result = request.result(PATIENCE_S)
        commit(run, trial_id, result)
        found[trial_id].append(result)
        last = result["diverged"] or result["step"] >= asked["settings"]["training"]["max_steps"]
        if not last and len(found[trial_id]) < num_results:
            waiting[trial_id] = (asked, loop.submit(asked))
    return found


def measures(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out of results what says how, and not what."""
    return [{n: result[n] for n in ("step", *MEASURES)} for result in results]
