"""The sweep as understood (``resolved.json``), and which edits of it a run directory accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fpt_ray.config import Arm, CheckpointInit, FPTSettings, Sweep, TrialSettings
from fpt_ray.errors import Problem, SweepFileError
from fpt_ray.seeding import trial_seed
from fpt_ray.storage import RunDirectory
from fpt_ray.training import fingerprints

Resolved = dict[str, Any]
_ABSENT = object()
# Where and how a sweep runs, and what its report shows beside: none of it changes a trial.
_FREE = ("resources", "failures", "loggers", "reference", "published", "format", "donated")
_DERIVED = ("max_steps", "num_trials", "final_seeds", "tune_seeds", "metric", "direction")


def resolve(sweep: Sweep) -> Resolved:
    """Write a sweep with every default and every arm spelled out, as JSON data.

    ``donated`` identifies the weights that arms start from and that other sweeps trained.

    Raises:
        ModelError: such weights are missing or damaged.
    """
    tune = sweep.tune
    return {
        "format": 1,
        "name": sweep.name,
        "seed": sweep.seed,
        "reference": sweep.reference_arm.name,
        "metric": tune.metric if tune else "validation_accuracy",
        "direction": tune.direction if tune else "max",
        "max_steps": sweep.training.max_steps,
        "num_trials": tune.num_trials if tune else 0,
        "tune_seeds": [trial_seed(sweep.seed, "tune", i) for i in range(tune.seeds if tune else 0)],
        "final_seeds": [trial_seed(sweep.seed, "final", i) for i in range(sweep.final.seeds)],
        "tune": tune.model_dump(mode="json") if tune else None,
        "final": sweep.final.model_dump(mode="json"),
        "resources": sweep.resources.model_dump(mode="json"),
        "failures": sweep.failures.model_dump(mode="json"),
        "loggers": list(sweep.loggers),
        "published": [p.model_dump(mode="json") for p in sweep.published],
        "arms": [
            {
                "name": arm.name,
                "labels": dict(arm.labels),
                "settings": arm.settings.model_dump(mode="json"),
            }
            for arm in sweep.arms
        ],
        "donated": {
            arm.name: fingerprints(arm.settings)["backbone"]
            for arm in sweep.arms
            if _has_donor(arm)
        },
    }


def _has_donor(arm: Arm) -> bool:
    model = arm.settings.model
    return isinstance(model, FPTSettings) and isinstance(model.init, CheckpointInit)


def check_edits(former: Mapping[str, Any], now: Resolved, run: RunDirectory, file: str) -> None:
    """Refuse a sweep file that contradicts what the run directory was made with.

    Accepted are more arms, grid values, trials, final seeds and steps, and any change of resources,
    failures, loggers, paths, the reference and published numbers.

    Args:
        former: ``resolved.json`` of the run directory.
        now: the sweep file as it reads now.
        run: the run directory.
        file: the sweep file's name, for the message.

    Raises:
        SweepFileError: with one problem for each contradiction.
    """
    lost = {arm["name"] for arm in former["arms"]} - {arm["name"] for arm in now["arms"]}
    changes = [f"arm {name} is no longer in the file: it" for name in sorted(lost)]
    changes += _differences(former, now, lost)
    if changes:
        raise SweepFileError(
            tuple(
                Problem(
                    f"{change} contradicts the trials that {run.uri} holds",
                    where=file,
                    fix=f"undo the edit, or use another name (name: {now['name']}_2)",
                )
                for change in changes
            )
        )


def _differences(former: Mapping[str, Any], now: Resolved, lost: set[str]) -> list[str]:
    """Describe what changed and may not; what changed alike in all arms is told once."""
    was, is_now = _flat(former), _flat(now)
    arms_of: dict[str, list[str]] = {}
    for key in {**was, **is_now}:
        before, after = was.get(key, _ABSENT), is_now.get(key, _ABSENT)
        name, _, setting = key.rpartition("\0.")
        arm = name.removeprefix("arms.")
        if before != after and arm not in lost and not _accepted(key, before, after, former):
            shown = "training.max_steps" if key == "max_steps" else setting
            change = f"{shown}: {_show(before)} -> {_show(after)}"
            arms_of.setdefault(change, []).append(arm)
    num_arms = len(former["arms"]) - len(lost)
    return [
        change if arms == [""] or len(arms) == num_arms else f"{change} (arm {', '.join(arms)})"
        for change, arms in arms_of.items()
    ]


def _accepted(key: str, was: Any, now: Any, former: Mapping[str, Any]) -> bool:
    if key.startswith("arms."):
        return key.split("\0")[0].removeprefix("arms.") not in {a["name"] for a in former["arms"]}
    grows: dict[str, Callable[[], bool]] = {
        "final.seeds": lambda: bool(now >= was),
        "tune.searcher.num_trials": lambda: bool(now >= was),
        "max_steps": lambda: bool(now >= was),
    }
    if was is _ABSENT or now is _ABSENT:
        return False
    if key in grows:
        return grows[key]()
    if key.startswith("tune.space.") and key.endswith(".grid"):
        return all(value in now for value in was)
    return False


def _flat(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten what counts to dotted keys; a zero byte ends an arm's name, which may hold dots.

    Settings are read anew, so that those of an older version have the defaults of newer fields.
    Weights of another sweep count with what they are, not with where they lie.
    """
    flat: dict[str, Any] = {"max_steps": resolved["max_steps"]}
    for section, value in resolved.items():
        if section not in (*_FREE, *_DERIVED, "arms"):
            _flatten(section, value, flat)
    for arm in resolved["arms"]:
        settings = TrialSettings.model_validate(arm["settings"]).model_dump(mode="json")
        del settings["data"], settings["training"]["max_steps"]
        if weights := resolved.get("donated", {}).get(arm["name"]):
            settings["model"]["init"] = {"checkpoint": f"weights {weights}"}
        _flatten(f"arms.{arm['name']}\0", settings, flat)
    return flat


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}", inner, into)
    else:
        into[prefix] = value


def _show(value: Any) -> str:
    return "(nothing)" if value is _ABSENT else repr(value)
