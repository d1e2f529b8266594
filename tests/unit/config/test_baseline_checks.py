"""Models without a backbone, and ends that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fpt_ray.config import TrialSettings, identity, load_sweep
from fpt_ray.config.baseline_checks import CAUSAL_FAMILIES, baseline_roles, input_kind, num_read
from fpt_ray.errors import SweepFileError
from fpt_ray.models import FAMILIES, Ends, SequenceModel, parameter_roles
from fpt_ray.tasks import TASKS, build_task
from fpt_ray.training.bodies import find_body

Load = Callable[..., list[str]]


@pytest.fixture
def problems(tmp_path: Path) -> Load:
    """Load a file; return what is wrong with it, without the file's name."""

    def load(model: str, task: str = "{name: bit_xor}", rest: str = "") -> list[str]:
        path = tmp_path / "s.yaml"
        path.write_text(f"task: {task}\nmodel: {model}\n{rest}", encoding="utf-8")
        try:
            load_sweep(path)
        except SweepFileError as error:
            return [str(each).removeprefix(f"{path}:") for each in error.problems]
        return []

    return load


def trial(task: dict[str, Any], **model: Any) -> TrialSettings:
    return TrialSettings.model_validate({"task": task, "model": model})


@pytest.mark.parametrize(
    "model",
    [
        "{name: lstm}",
        '{name: lstm, trained: [input, output, layer_norm, "recurrent[-1]"]}',
        "{name: lstm, num_layers: 12, residual: true, positions: true, trained: [positions]}",
        '{name: lstm, trained: ["all - recurrent[0:2]"]}',
        "{name: no_backbone, trained: [output], token_order: shuffled}",
        "{name: no_backbone, read: first}",
        "{backbone: tiny-bert, init: random, read: first}",
    ],
)
def test_what_fits_is_not_complained_about(problems: Load, model: str) -> None:
    assert problems(model) == []


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        ("{name: lstm, trained: [attention]}", "input, output, layer_norm, recurrent"),
        ("{name: lstm, trained: [attention], layer_norm: false}", "input, output, recurrent"),
        (
            "{name: lstm, trained: [attention], positions: true}",
            "input, output, positions, layer_norm, recurrent",
        ),
        ("{name: no_backbone, trained: [attention]}", "input, output"),
    ],
)
def test_a_group_that_the_model_lacks_is_refused_with_those_it_has(
    problems: Load, model: str, groups: str
) -> None:
    (problem,) = problems(model)
    assert problem.endswith(
        f"selector 'attention' matches nothing\n  fix: this model's groups are {groups}"
    )


def test_positions_of_an_lstm_must_be_asked_for(problems: Load) -> None:
    (problem,) = problems("{name: lstm, trained: [positions]}")
    assert problem == (
        "2:31: selector 'positions' matches nothing\n  fix: positions: true, or leave positions out"
    )


def test_a_layer_that_an_lstm_lacks_is_refused(problems: Load) -> None:
    (problem,) = problems('{name: lstm, trained: ["recurrent[3]"]}')
    assert 'fix: recurrent has layers 0 to 2: "recurrent[0]" or "recurrent[-1]"' in problem


@pytest.mark.parametrize(
    "model",
    ["{name: lstm, read: first}", "{backbone: tiny-gpt2, init: random, read: first}"],
)
def test_the_first_token_of_a_causal_model_is_not_read(problems: Load, model: str) -> None:
    (problem,) = problems(model)
    assert "the first tokens see none of the later ones" in problem
    assert problem.endswith("fix: read: last")


def test_a_mean_is_read_only_where_one_answer_is_asked_for(problems: Load) -> None:
    (problem,) = problems("{name: lstm, read: mean}")
    assert "the task asks about each of 5 tokens, which their mean cannot tell apart" in problem
    assert problems("{name: lstm, read: mean}", "{name: listops}") == []
    assert problems("{name: lstm, read: mean}", "{name: bit_memory, length: 50}") == []


def test_features_are_not_embedded(problems: Load) -> None:
    (problem,) = problems("{name: lstm, input_layer: embedding}")
    assert problem == (
        "2:34: the task's tokens are features, and only ids can be embedded\n"
        "  fix: input_layer: auto"
    )
    assert problems("{name: lstm, input_layer: embedding}", "{name: listops}") == []


def test_an_arm_that_changes_the_model_replaces_the_section(problems: Load) -> None:
    model = "{backbone: tiny-gpt2, init: random}"
    (first, second) = problems(model, rest="compare: {a: {x: {model.name: lstm}}}\n")
    assert first.startswith("3:19: unknown key 'backbone' in model\n  fix: remove it: lstm has")
    instead = "; where only model.name was changed, write {model: {name: lstm}} instead"
    assert instead in first
    assert second.startswith("3:19: unknown key 'init' in model\n")
    assert problems(model, rest="compare: {a: {x: {}, y: {model: {name: lstm}}}}\n") == []


def test_a_key_of_another_model_is_refused_with_the_model_that_has_it(problems: Load) -> None:
    (problem,) = problems("{backbone: gpt2, residual: true}")
    assert "unknown key 'residual' in model\n  fix: remove it: fpt has none, lstm would" in problem
    (problem,) = problems("{name: no_backbone, num_layers: 2}")
    assert "no_backbone has none, fpt and lstm would" in problem


def test_an_unknown_model_is_refused_with_those_that_exist(problems: Load) -> None:
    (problem,) = problems("{name: lstn}")
    assert problem.startswith("2:15: model.name cannot be 'lstn'\n  fix: lstm, or fpt, or")


def test_what_is_known_of_tasks_is_what_they_say() -> None:
    for name in TASKS:
        settings = trial({"name": name}, name="lstm")
        spec = build_task(settings).spec
        assert (input_kind(settings.task), num_read(settings.task)) == (
            spec.input_kind,
            spec.num_read,
        )


def test_what_is_known_of_families_is_what_they_say() -> None:
    assert set(CAUSAL_FAMILIES) == {name for name, family in FAMILIES.items() if family.causal}


@pytest.mark.parametrize(
    "model",
    [
        {"name": "lstm"},
        {"name": "lstm", "layer_norm": False, "positions": True, "num_layers": 2},
        {"name": "no_backbone"},
    ],
)
def test_groups_are_known_without_building_the_model(model: dict[str, Any]) -> None:
    settings = trial({"name": "bit_xor"}, hidden_size=4, **model)
    body = find_body(settings, build_task(settings))
    built = parameter_roles(SequenceModel(body, Ends("features", 1, 5, 2), 0.1), body)
    known = baseline_roles(settings.model)  # type: ignore[arg-type]
    assert {(role.group, role.layer) for role in known} == {
        (role.group, role.layer) for role in built
    }


def test_the_identity_of_a_model_without_a_backbone_holds_its_name() -> None:
    lstm, none = (trial({"name": "bit_xor"}, name=name) for name in ("lstm", "no_backbone"))
    assert identity(lstm)["model"] == {"name": "lstm"}
    assert identity(none)["model"] == {"name": "no_backbone"}
    assert lstm.compact()["model"] == {"name": "lstm"}
    assert identity(lstm.with_values({"model.residual": True}))["model"] == {
        "name": "lstm",
        "residual": True,
    }
