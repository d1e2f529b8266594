"""Published numbers beside ours: marked, sourced, and never those that are only recalled."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.report.published import beside_published, published_section
from fpt_ray.report.results import collect
from fpt_ray.report.summary import summarize_sweep


def asked(table: str, **arms: str) -> dict[str, Any]:
    return {"table": table, "arms": arms}


def section(sweep: Any, *published: dict[str, Any]) -> str:
    record = sweep.record(published=list(published))
    result = collect(record)
    return published_section(beside_published(record, result), result.rows)


def test_ours_stands_beside_the_published_number_with_its_source(finished: Any) -> None:
    text = section(finished, asked("T15", pretrained="plus_input", random="output"))
    lines = text.splitlines()
    assert lines[0] == (
        "| arm | ours, test accuracy, % [95 %] | published, test accuracy, % | table and row "
        "| certainty |"
    )
    assert lines[2] == (
        "| `pretrained` | 96.00 [91.03, 100.97] | 98 | Lu et al. 2021, T15 `plus_input` "
        "| transcribed and confirmed independently |"
    )
    assert "| `random` | 75.00 [62.58, 87.42] | 56 | Lu et al. 2021, T15 `output` |" in text


def test_the_task_of_the_block_chooses_the_cell(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b"), space={}, tasks={"b": {"name": "mnist"}})
    text = section(sweep, asked("T13", a="attention", b="attention"))
    assert "### bit_xor" in text
    assert "| `a` | – | 100 | Lu et al. 2021, T13 `attention` |" in text  # noqa: RUF001
    assert "| `b` | – | 89.0 | Lu et al. 2021, T13 `attention` |" in text  # noqa: RUF001


def test_standard_errors_are_shown_where_they_are_published(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a",), space={}, tasks={"a": {"name": "cifar10_lra"}})
    text = section(sweep, asked("rothermel_T1", a="frozen_pretrained"))
    assert "| 54.7 ± 1.4 (SEM) | Rothermel et al. 2021, rothermel_T1 `frozen_pretrained` |" in text


def test_a_row_without_a_number_for_the_task_shows_a_dash(new_sweep: Any) -> None:
    text = section(new_sweep(arms=("a",), space={}), asked("T17", a="BERT"))
    assert "| `a` | – | – | Lu et al. 2021, T17 `BERT` | – |" in text  # noqa: RUF001


def test_recalled_numbers_are_left_out_and_counted(finished: Any) -> None:
    sweep_of = asked("T18", pretrained="input", random="positions")
    text = section(finished, sweep_of)
    assert "72" not in text
    assert "84" not in text
    assert text.endswith(
        "- 2 published numbers of T18 left out: unverified, that is, recalled and not transcribed "
        "from the paper."
    )
    record = finished.record(published=[sweep_of])
    (block,) = beside_published(record, collect(record))
    assert [(each.value, each.certainty) for each in block.numbers] == [(None, "unverified")] * 2


def test_gradient_steps_stand_beside_steps_to_convergence(finished: Any) -> None:
    text = section(finished, asked("T6", pretrained="FPT", random="Random"))
    assert "| arm | ours, steps to convergence, mean (range) | published, gradient steps |" in text
    assert "| `pretrained` | 300 | 500 | Lu et al. 2021, T6 `FPT` |" in text
    assert "| `random` | 300 | 20,000 | Lu et al. 2021, T6 `Random` |" in text


def test_caveats_and_conflicts_are_notes(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a",), space={}, tasks={"a": {"name": "listops", "max_depth": 3}})
    text = section(sweep, asked("T10", a="output_only"))
    assert "- T10: Conflict: T15 'output' gives ListOps 15 and CIFAR-10 LRA 17" in text


def test_what_was_done_otherwise_is_told(finished: Any) -> None:
    settings = {"task": {"name": "mnist"}, "model": {"name": "fpt", "backbone": "minilm-l6"}}
    arms = [{"name": "pretrained", "labels": {}, "settings": settings}]
    record = finished.record(arms=arms, published=[asked("T1", pretrained="FPT")])
    (block,) = beside_published(record, collect(record))
    assert "one seed, one learning rate for all arms" in block.notes[0]
    assert "3 final seeds, 3 tuning trials of learning_rate in every arm" in block.notes[0]
    assert "Its sequences: images of 32x32, 64 tokens; here: mnist." in block.notes[0]
    assert block.notes[0].endswith("The models differ: `minilm-l6` here, `gpt2` there.")


@pytest.mark.parametrize(
    ("model", "ending"),
    [
        ({"name": "lstm", "num_layers": 3}, "`lstm of 3 layers` here, `gpt2` there."),
        ({"name": "no_backbone"}, "`no_backbone` here, `gpt2` there."),
        ({"backbone": "openai-community/gpt2"}, "The backbone has the same name."),
        ({"backbone": "gpt2", "num_layers": 2}, "`gpt2, first 2 layers` here, `gpt2` there."),
    ],
)
def test_models_without_backbone_are_named_by_their_kind(
    finished: Any, model: dict[str, Any], ending: str
) -> None:
    settings = {"task": {"name": "bit_xor"}, "model": model}
    arms = [{"name": "pretrained", "labels": {}, "settings": settings}]
    record = finished.record(arms=arms, published=[asked("T1", pretrained="FPT")])
    (block,) = beside_published(record, collect(record))
    assert block.notes[0].endswith(ending)


def test_a_table_of_another_version_is_no_error(finished: Any) -> None:
    assert section(finished, asked("T99", pretrained="FPT")) == (
        "- There is no published table T99 in this version."
    )


def test_without_published_numbers_there_is_no_section(finished: Any) -> None:
    record = finished.record()
    assert beside_published(record, collect(record)) == ()
    assert "Published beside ours" not in summarize_sweep(record, collect(record), (), None)
    record = finished.record(published=[asked("T15", pretrained="output")])
    assert "## Published beside ours\n\n| arm |" in summarize_sweep(
        record, collect(record), (), None
    )


def test_quoted_numbers_are_told_apart_from_measured_ones(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a",), space={}, tasks={"a": {"name": "listops"}})
    text = section(sweep, asked("T1", a="Full"))
    assert "T1 `Full` is quoted there from Tay et al. 2020, tuned" in text
    assert "quotes these numbers. Here: " in text
    assert "one learning rate for all arms" not in text
    assert "here, `vanilla transformer of 3 layers` there" in text
