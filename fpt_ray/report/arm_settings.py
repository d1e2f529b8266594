"""What the report says about an arm's settings: its task, its backbone, what is not default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fpt_ray.config.tasks import TASKS


def task_title(settings: Mapping[str, Any]) -> str:
    """Name an arm's task, with the parameters that make it another task than the default one.

    A parameter that an older version did not know has its default.

    Args:
        settings: of the arm, as ``resolved.json`` holds them.
    """
    task = settings["task"]
    known = TASKS.get(task["name"])
    defaults = {name: field.default for name, field in known.model_fields.items()} if known else {}
    shown = [
        f"{key} {json.dumps(value)}"
        for key, value in sorted(task.items())
        if key != "name" and not (key in defaults and defaults[key] == value)
    ]
    return f"{task['name']} ({', '.join(shown)})" if shown else str(task["name"])


def backbone_name(settings: Mapping[str, Any]) -> str:
    """Name what an arm has between its ends: a backbone, or the model's kind without one.

    A backbone of which the first layers are kept says how many.
    """
    model = settings.get("model", {})
    name, kind = model.get("backbone"), model.get("name", "fpt")
    num_layers = model.get("num_layers")
    if name is None:
        return f"{kind} of {num_layers} layers" if num_layers else str(kind)
    return f"{name}, first {num_layers} layers" if num_layers else str(name)
