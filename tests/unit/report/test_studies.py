"""Optuna's studies: what a viewer finds in them, and that a journal grows where it can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from fpt_ray.report.studies import JOURNAL, extend_journal, write_studies

KEY = "training.learning_rate"


def load(run: Any, arm: str) -> optuna.Study:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(run.local_path / JOURNAL)))
    return optuna.load_study(study_name=f"demo/{arm}", storage=storage)


def test_every_arm_is_a_study_with_its_tuning_trials(run: Any, finished: Any) -> None:
    write_studies(run, finished.record())
    study = load(run, "pretrained")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.PRUNED]
    best = study.best_trial
    assert best.value == 0.95
    assert best.params == {KEY: 1e-3}
    assert best.distributions == {KEY: CategoricalDistribution([1e-4, 1e-3, 1e-2])}
    assert best.intermediate_values == {100: 0.6, 200: 0.8, 300: 0.95}
    assert best.user_attrs == {"trial_id": "000000000001", "status": "finished", "seed": 7}
    assert best.duration is not None
    assert best.duration.total_seconds() == pytest.approx(7.5, abs=0.5)
    assert study.trials[2].user_attrs["status"] == "diverged"
    assert study.trials[2].user_attrs["reason"] == "the loss is nan"


def test_a_failed_trial_is_a_failure_with_its_reason(run: Any, searched: Any) -> None:
    searched.fail("out of memory")
    write_studies(run, searched.record())
    trial = load(run, "random").trials[-1]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "out of memory"


def test_a_loss_is_minimized(run: Any, searched: Any) -> None:
    write_studies(run, searched.record(metric="validation_loss", direction="min"))
    study = load(run, "random")
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        ({"choice": [["input"], "all"]}, ["input"], CategoricalDistribution(['["input"]', "all"])),
        ({"uniform": [0.0, 1.0]}, 0.5, FloatDistribution(0.0, 1.0)),
        ({"log_uniform": [1e-5, 1e-1]}, 1e-3, FloatDistribution(1e-5, 1e-1, log=True)),
        ({"int_uniform": [1, 9]}, 4, IntDistribution(1, 9)),
    ],
)
def test_domains_become_distributions(
    run: Any, new_sweep: Any, domain: Any, value: Any, expected: Any
) -> None:
    sweep = new_sweep(space={KEY: domain})
    sweep.tune("random", value, [0.5])
    write_studies(run, sweep.record())
    assert load(run, "random").trials[0].distributions == {KEY: expected}


def test_a_journal_grows_while_its_trials_run(run: Any, searched: Any) -> None:
    whole = searched.record()
    begun = replace(
        whole.trials[1], evaluations=whole.trials[1].evaluations[:1], status="running", best=None
    )
    write_studies(run, replace(whole, trials=(whole.trials[0], begun)))
    assert load(run, "pretrained").trials[1].state == TrialState.RUNNING
    former = run.read_bytes(JOURNAL)
    write_studies(run, whole)
    assert run.read_bytes(JOURNAL).startswith(former)
    trial = load(run, "pretrained").trials[1]
    assert trial.state == TrialState.COMPLETE
    assert trial.intermediate_values == {100: 0.6, 200: 0.8, 300: 0.95}
    assert trial.user_attrs["status"] == "finished"


def test_a_journal_without_news_stays_as_it_is(run: Any, searched: Any) -> None:
    write_studies(run, searched.record())
    journal = run.read_bytes(JOURNAL)
    assert extend_journal(searched.record(), journal) == journal


@pytest.mark.parametrize("former", [b"{not json", b"17\n", b"\xff", b"{}\n"])
def test_a_damaged_journal_is_rebuilt(run: Any, searched: Any, former: bytes) -> None:
    run.write_bytes(JOURNAL, former)
    write_studies(run, searched.record())
    assert len(load(run, "random").trials) == 3


def test_a_longer_search_rebuilds_the_journal(run: Any, searched: Any) -> None:
    write_studies(run, searched.record())
    searched.space[KEY]["grid"].append(0.1)
    searched.tune("random", 0.1, [0.9, 0.9, 0.9])
    write_studies(run, searched.record())
    study = load(run, "random")
    assert len(study.trials) == 4
    assert study.best_params == {KEY: 0.1}


def test_a_trial_that_went_on_and_one_that_is_gone_rebuild_it(run: Any, searched: Any) -> None:
    write_studies(run, searched.record())
    gone = searched.trials.pop(0)
    searched.trials[0] = replace(searched.trials[0], status="running")
    write_studies(run, searched.record())
    trials = load(run, "pretrained").trials
    assert gone.trial_id not in [trial.user_attrs["trial_id"] for trial in trials]
    assert trials[0].state == TrialState.RUNNING


def test_a_sweep_without_a_search_has_no_journal(run: Any, new_sweep: Any) -> None:
    write_studies(run, new_sweep(space={}).record())
    assert not run.exists(JOURNAL)
