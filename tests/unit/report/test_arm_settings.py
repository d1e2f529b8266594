"""How an arm's task is called: by what makes it another task than the default one."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.config import TrialSettings
from fpt_ray.config.tasks import TASKS
from fpt_ray.report.arm_settings import task_title


@pytest.mark.parametrize("name", TASKS)
def test_a_task_with_its_defaults_is_called_by_its_name(name: str) -> None:
    model = {"backbone": "tiny-gpt2", "init": "random"}
    settings = TrialSettings.model_validate({"task": {"name": name}, "model": model})
    assert task_title(settings.model_dump(mode="json")) == name


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ({"name": "bit_xor", "length": 5, "patterns": 3}, "bit_xor (patterns 3)"),
        ({"name": "cifar10", "augment": False}, "cifar10 (augment false)"),
        ({"name": "listops", "max_args": 5, "max_depth": 3}, "listops (max_args 5, max_depth 3)"),
        ({"name": "of_a_later_version", "size": 2}, "of_a_later_version (size 2)"),
        ({"name": "bit_xor", "unheard_of": 1}, "bit_xor (unheard_of 1)"),
    ],
)
def test_other_parameters_make_another_task(task: dict[str, Any], title: str) -> None:
    assert task_title({"task": task}) == title
