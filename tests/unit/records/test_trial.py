from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fpt_ray.errors import RunDirectoryError
from fpt_ray.records import EvaluationRecord, TrialRecord
from fpt_ray.records.trial import best_of, parse_log, status_of


def evaluation(step: int, accuracy: float | None = 0.5, **changes: object) -> EvaluationRecord:
    fields: dict[str, object] = {
        "step": step,
        "sequence": step,
        "decision": "continue",
        "train_loss": 0.7,
        "validation_loss": 0.6,
        "validation_accuracy": accuracy,
        "train_s": 1.0,
        "wall_s": 2.0,
    }
    return EvaluationRecord(**(fields | changes))  # type: ignore[arg-type]


def trial_of(*records: EvaluationRecord) -> TrialRecord:
    names = {"arm": "a", "labels": {}, "slot": 0, "seed": 0, "seed_index": 0}
    values: dict[str, object] = {"values": {}, "settings": {}, "evaluations": records}
    return TrialRecord(trial_id="t", stage="final", **names, **values)  # type: ignore[arg-type]


def test_a_line_reads_back_as_it_was_written() -> None:
    tested = evaluation(5, test_accuracy=0.5, test_examples=10, test_skipped=3)
    written = [tested, evaluation(10, None, decision="diverge", reason="loss is nan")]
    log = "".join(e.to_line() for e in written).encode()
    assert parse_log(log, "log") == tuple(written)


def test_a_line_keeps_what_is_required_and_drops_what_is_unset() -> None:
    line = json.loads(evaluation(5, None).to_line())
    assert line["validation_accuracy"] is None
    assert "test_accuracy" not in line


@pytest.mark.parametrize("line", ["{", '{"step": 1}', '{"unknown": 1}', "[]", "\udcff"])
def test_a_damaged_log_is_named_with_its_line(line: str) -> None:
    log = evaluation(5).to_line() + line + "\n"
    with pytest.raises(RunDirectoryError, match=r"trials/a/log:2: not the record"):
        parse_log(log.encode(errors="replace"), "trials/a/log")


def test_status_follows_from_the_log() -> None:
    assert status_of([], 10, None) == ("running", None)
    assert status_of([evaluation(5)], 10, None) == ("running", None)
    assert status_of([evaluation(10)], 10, None) == ("finished", None)
    assert status_of([evaluation(5, decision="stop")], 10, None) == ("stopped", None)
    diverged = evaluation(7, None, decision="diverge", reason="loss is nan")
    assert status_of([diverged], 10, None) == ("diverged", "loss is nan")
    assert status_of([evaluation(5)], 10, {"reason": "boom"}) == ("failed", "boom")


def test_a_finished_trial_goes_on_when_max_steps_is_raised() -> None:
    finished = [evaluation(10, decision="finish")]
    assert status_of(finished, 10, None)[0] == "finished"
    assert status_of(finished, 20, None)[0] == "running"


def test_the_best_evaluation_breaks_ties_by_loss_and_then_by_step() -> None:
    ties = [evaluation(5, 0.9), evaluation(10, 0.9, validation_loss=0.2), evaluation(15, 0.8)]
    assert best_of(ties, "validation_accuracy", "max") == ties[1]
    same = [evaluation(5, 0.9), evaluation(10, 0.9)]
    assert best_of(same, "validation_accuracy", "max") == same[0]
    assert best_of(ties, "validation_loss", "min") == ties[1]


def test_nothing_measured_has_no_best() -> None:
    assert best_of([evaluation(3, None)], "validation_accuracy", "max") is None
    nan = replace(evaluation(3), validation_accuracy=float("nan"))
    assert best_of([nan], "validation_accuracy", "max") is None


def test_a_log_without_skipped_sequences_reads_as_none_skipped() -> None:
    tested = evaluation(5, test_accuracy=0.5, test_loss=0.7, test_examples=10)
    line = tested.to_line()
    assert "test_skipped" not in line
    (read,) = parse_log(line.encode(), "log")
    assert trial_of(read).test_skipped == 0
    assert trial_of(replace(read, test_skipped=3)).test_skipped == 3
    assert trial_of(evaluation(5)).test_skipped == 0


def test_a_log_without_packs_reads_as_untold_and_a_trial_has_its_largest() -> None:
    line = evaluation(5).to_line()
    assert "pack" not in line
    assert trial_of(*parse_log(line.encode(), "log")).pack is None
    log = "".join(evaluation(step, pack=pack).to_line() for step, pack in ((5, 2), (9, 8), (12, 4)))
    assert trial_of(*parse_log(log.encode(), "log"), evaluation(20)).pack == 8
