"""``model.init`` as it stands in a sweep file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fpt_ray.config import CheckpointInit, TrialSettings, load_sweep

Refuse = Callable[..., list[str]]
ARMS = "compare:\n  init:\n    drawn: {model.init: random}\n    taken: {model.init: %s}\n"


def init_of(reference: str) -> CheckpointInit:
    settings = TrialSettings.model_validate(
        {
            "task": {"name": "bit_xor"},
            "model": {"backbone": "gpt2", "init": {"checkpoint": reference}},
        }
    )
    assert isinstance(settings.model.init, CheckpointInit)
    return settings.model.init


@pytest.mark.parametrize(
    ("reference", "what", "fix"),
    [
        ('"runs/x"', "'runs/x' lacks #ARM at its end", "checkpoint: runs/x#default"),
        ('"runs/x#"', "'runs/x#' lacks #ARM at its end", "checkpoint: runs/x#default"),
        ('"#a/b"', "'#a/b' lacks a directory before its #", "checkpoint: runs/NAME#a/b"),
        ('""', "'' lacks #ARM at its end", "checkpoint: runs/NAME#default"),
    ],
)
def test_a_reference_without_a_part_is_refused_at_its_place(
    refuse: Refuse, reference: str, what: str, fix: str
) -> None:
    text = ARMS % f"{{checkpoint: {reference}}}"
    line = "    taken: {model.init: {checkpoint: "
    expected = f"s.yaml:6:{len(line) + 1}: checkpoint {what} (arm taken)\n  fix: {fix}"
    assert refuse(text) == [expected]


@pytest.mark.parametrize("init", ["{checkpoint: 3}", "{chekpoint: a#b}", "pretrianed"])
def test_anything_else_is_refused_with_the_choices(refuse: Refuse, init: str) -> None:
    (problem,) = refuse(ARMS % init)
    assert problem.startswith("s.yaml:6:25: init cannot be ")
    assert "pretrained, or random, or statistics, or {checkpoint: RUN_DIR#ARM}" in problem


def test_a_relative_directory_counts_from_where_the_command_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init = init_of("my runs/first#+positions/random")
    assert init.run_dir == str(tmp_path / "my runs" / "first")
    assert init.arm == "+positions/random"
    monkeypatch.chdir("/")
    assert CheckpointInit.model_validate(init.model_dump(mode="json")) == init


@pytest.mark.parametrize("place", ["/runs/a#b", "s3://bucket/runs/a", "~/runs/a", "gs://b/a?x=y"])
def test_other_places_are_left_as_they_are(place: str) -> None:
    init = init_of(f"{place}#default")
    assert (init.run_dir, init.arm) == (place, "default")


def test_two_spellings_of_one_place_are_one_arm(
    write: Callable[[str], Path], refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arms = "compare:\n  init:\n    a: {model.init: {checkpoint: runs/x#%s}}\n"
    arms += "    b: {model.init: {checkpoint: %s#y}}\n"
    assert len(load_sweep(write(arms % ("z", "runs/x"))).arms) == 2
    (problem,) = refuse(arms % ("y", tmp_path / "runs" / "x"))
    assert "labels 'a' and 'b' of axis 'init' resolve to the same settings" in problem


@pytest.mark.parametrize("init", ["pretrained", "statistics"])
def test_a_backbone_without_pretrained_weights_has_no_statistics_either(
    refuse: Refuse, init: str
) -> None:
    (problem,) = refuse(ARMS % f"{init}, model.backbone: tiny-gpt2")
    assert "tiny-gpt2 has no pretrained weights (arm taken)\n  fix: init: random" in problem
