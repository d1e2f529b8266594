"""The arms' searchers and schedulers under a driver that is killed at random, without a cluster."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from fpt_ray.config import Sweep, TrialSettings
from fpt_ray.orchestrate.resolved import resolve
from fpt_ray.records import SweepRecord
from fpt_ray.search import ArmScheduler, ArmSearch, ArmSearcher, Ledger
from fpt_ray.storage import Lease, RunDirectory

RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
GRID = {"training.learning_rate": {"grid": RATES}}
ASHA = {"name": "asha", "grace_period": 2, "reduction_factor": 3}


def sweep_with(**changes: Any) -> Sweep:
    """A sweep of two arms, one good and one hopeless, whose trials are imitated."""
    base: dict[str, Any] = {
        "name": "demo",
        "task": {"name": "bit_xor"},
        "model": {"backbone": "tiny-gpt2", "init": "random", "trained": ["output"]},
        "training": {"max_steps": 18, "eval_every": 2},
        "compare": {
            "gain": {
                "good": {"model.orthogonal_gain": 1.0},
                "hopeless": {"model.orthogonal_gain": 2.0},
            }
        },
        "tune": {"space": GRID, "scheduler": ASHA},
        "final": {"seeds": 2},
    }
    return Sweep.model_validate(base | changes)


def fingerprints(settings: TrialSettings) -> dict[str, str]:
    """Imitate those of weights: two backbones have two."""
    return {"backbone": settings.model.backbone}


class KilledError(Exception):
    """The imitated driver was killed."""


def evaluate(trial: dict[str, Any], step: int) -> dict[str, Any]:
    """Imitate a trial: a learning curve that depends on its settings and seed only."""
    settings = trial["settings"]
    rate = settings["training"]["learning_rate"]
    skill = random.Random(f"{rate} {trial['seed']}").random()
    hopeless = settings["model"]["orthogonal_gain"] == 2.0
    accuracy = 0.5 if hopeless else 0.5 + 0.5 * skill * step / 18
    return {
        "step": step,
        "train_loss": 1.0,
        "validation_loss": 1 - accuracy,
        "validation_accuracy": accuracy + 1e-6 * skill,
        "train_s": float(step),
        "wall_s": float(step),
        "diverged": False,
        "trained_parameters": 7,
        "pack": 3,
    }


def drive(
    run: RunDirectory, sweep: Sweep, seed: int, kill_after: int | None = None, slots: int = 3
) -> tuple[SweepRecord, ArmScheduler]:
    """Imitate Tune: ask for trials, advance one at random, obey the decision."""
    rng = random.Random(seed)
    with Lease(run) as lease:
        ledger = Ledger(run, lease, resolve(sweep))
        searches = [ArmSearch(sweep, arm, fingerprints, ledger) for arm in sweep.arms]
        searcher = ArmSearcher(searches, ledger, lambda: slots, {})
        scheduler = ArmScheduler(sweep, ledger)
        live: list[dict[str, Any]] = []
        while True:
            while isinstance(suggested := searcher.suggest("tune's own id"), dict):
                live.append(suggested)
            if not live:
                assert suggested == Searcher.FINISHED
                return ledger.record(), scheduler
            chosen = rng.choice(live)
            trial = SimpleNamespace(config=chosen)
            step = ledger.trials[chosen["trial"]["trial_id"]].steps + 2
            if kill_after is not None and (kill_after := kill_after - 1) < 0:
                raise KilledError
            decision = scheduler.on_trial_result(None, trial, evaluate(chosen["trial"], step))  # type: ignore[arg-type]
            if decision == TrialScheduler.STOP:
                live.remove(chosen)


def rungs(scheduler: TrialScheduler) -> dict[int, dict[str, float]]:
    assert isinstance(scheduler, ASHAScheduler)
    return {int(step): dict(values) for step, values in scheduler._brackets[0]._rungs}


def assert_whole(record: SweepRecord, scheduler: ArmScheduler, num_trials: int) -> None:
    sequences = [e.sequence for t in record.trials for e in t.evaluations]
    assert sorted(sequences) == list(range(len(sequences)))
    for trial in record.trials:
        assert [e.step for e in trial.evaluations] == list(range(2, trial.steps + 1, 2))
        assert trial.status in ("finished", "stopped")
    for arm in record.arms:
        tuned = record.of_arm(arm.name, "tune")
        assert len(tuned) == num_trials
        assert any(t.status == "finished" for t in tuned)
        assert len(record.finalists(arm.name)) == 2
        logged: dict[int, dict[str, float]] = {2: {}, 6: {}}
        for trial in tuned:
            for evaluation in trial.evaluations:
                if evaluation.step in logged and evaluation.validation_accuracy is not None:
                    logged[evaluation.step][trial.trial_id] = evaluation.validation_accuracy
        held = rungs(scheduler.arms[arm.name])
        assert {step: held[step] for step in logged} == logged


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "demo")


@pytest.mark.parametrize("seed", range(5))
def test_both_arms_get_equal_trials_and_train_one_to_the_end(run: RunDirectory, seed: int) -> None:
    record, scheduler = drive(run, sweep_with(), seed)
    assert_whole(record, scheduler, len(RATES))
    assert any(t.status == "stopped" for t in record.of_arm("good", "tune"))
    assert {e.pack for t in record.trials for e in t.evaluations} == {3}


def test_the_number_of_live_trials_follows_what_the_devices_take(run: RunDirectory) -> None:
    room = 1
    with Lease(run) as lease:
        sweep = sweep_with()
        ledger = Ledger(run, lease, resolve(sweep))
        searches = [ArmSearch(sweep, arm, fingerprints, ledger) for arm in sweep.arms]
        searcher = ArmSearcher(searches, ledger, lambda: room, {"pool": "p"})
        first = searcher.suggest("x")
        assert first["pool"] == "p"
        assert searcher.suggest("x") is None
        room = 3
        assert [searcher.suggest("x") is None for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("seed", range(10))
def test_a_driver_that_is_killed_again_and_again_loses_and_doubles_nothing(
    run: RunDirectory, seed: int
) -> None:
    rng = random.Random(seed)
    before: dict[str, bytes] = {}
    for attempt in range(8):
        with pytest.raises(KilledError):
            drive(run, sweep_with(), seed + attempt, kill_after=rng.randrange(1, 6))
        logs = {t: run.read_bytes(run.log_of(t)) or b"" for t in run.entries("trials")}
        assert all(logs[t].startswith(former) for t, former in before.items())
        before = logs
    record, scheduler = drive(run, sweep_with(), seed)
    assert_whole(record, scheduler, len(RATES))


def outcomes(record: SweepRecord) -> dict[str, Any]:
    return {
        t.trial_id: (
            t.stage,
            t.arm,
            t.values,
            t.status,
            t.steps,
            t.best and t.best.validation_accuracy,
        )
        for t in record.trials
    }


def test_with_grid_and_fifo_a_killed_sweep_equals_an_undisturbed_one(tmp_path: Path) -> None:
    sweep = sweep_with(tune={"space": GRID})
    undisturbed, _ = drive(RunDirectory(tmp_path / "a" / "demo"), sweep, 0)
    run = RunDirectory(tmp_path / "b" / "demo")
    for attempt in range(5):
        with pytest.raises(KilledError):
            drive(run, sweep, attempt, kill_after=11)
    resumed, _ = drive(run, sweep, 7)
    assert outcomes(resumed) == outcomes(undisturbed)


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_searchers_propose_the_same_after_a_restart(tmp_path: Path, name: str) -> None:
    tune = {
        "space": {"training.learning_rate": {"log_uniform": [1e-5, 1e-1]}},
        "searcher": {"name": name, "num_trials": 14},
    }
    sweep = sweep_with(tune=tune)
    undisturbed, _ = drive(RunDirectory(tmp_path / "a" / "demo"), sweep, 0, slots=1)
    run = RunDirectory(tmp_path / "b" / "demo")
    for _ in range(3):
        with pytest.raises(KilledError):
            drive(run, sweep, 0, kill_after=40, slots=1)
    resumed, _ = drive(run, sweep, 0, slots=1)
    assert outcomes(resumed) == outcomes(undisturbed)
    values = [t.values["training.learning_rate"] for t in resumed.of_arm("good", "tune")]
    assert len(set(values)) == 14


def test_random_search_draws_alike_in_every_arm(run: RunDirectory) -> None:
    tune = {
        "space": {"training.learning_rate": {"log_uniform": [1e-5, 1e-1]}},
        "searcher": {"name": "random", "num_trials": 5},
    }
    record, _ = drive(run, sweep_with(tune=tune), 0)
    drawn = [[t.values for t in record.of_arm(arm.name, "tune")] for arm in record.arms]
    assert drawn[0] == drawn[1]


def test_a_finite_space_is_drawn_without_repeats(run: RunDirectory) -> None:
    tune = {
        "space": {"training.batch_size": {"choice": [1, 2, 4, 8]}},
        "searcher": {"name": "optuna", "num_trials": 4},
    }
    record, _ = drive(run, sweep_with(tune=tune), 0)
    sizes = [t.values["training.batch_size"] for t in record.of_arm("good", "tune")]
    assert sorted(sizes) == [1, 2, 4, 8]


def trained(before: SweepRecord, after: SweepRecord) -> set[str]:
    steps = {t.trial_id: t.steps for t in before.trials}
    return {t.trial_id for t in after.trials if t.steps != steps.get(t.trial_id)}


def test_a_new_learning_rate_trains_only_itself_and_new_finalists(run: RunDirectory) -> None:
    fifo = {"space": {"training.learning_rate": {"grid": RATES[:3]}}}
    before, _ = drive(run, sweep_with(tune=fifo), 0)
    wider = {"space": {"training.learning_rate": {"grid": [RATES[3], *RATES[:3]]}}}
    after, _ = drive(run, sweep_with(tune=wider), 0)
    new = [t for t in after.trials if t.trial_id in trained(before, after)]
    assert {t.values["training.learning_rate"] for t in new if t.stage == "tune"} == {RATES[3]}
    for arm in after.arms:
        assert len(after.of_arm(arm.name, "tune")) == 4
        assert len(after.finalists(arm.name)) == 2


def test_more_steps_go_on_where_trials_ended(run: RunDirectory) -> None:
    fifo = {"space": {"training.learning_rate": {"grid": RATES[:2]}}}
    before, _ = drive(run, sweep_with(tune=fifo), 0)
    longer = sweep_with(tune=fifo, training={"max_steps": 24, "eval_every": 2})
    after, _ = drive(run, longer, 0)
    tuned = [t for t in after.trials if t.stage == "tune"]
    assert {t.trial_id for t in tuned} == {t.trial_id for t in before.trials if t.stage == "tune"}
    assert {t.steps for t in tuned} == {24}


def test_a_third_seed_trains_one_finalist_in_each_arm(run: RunDirectory) -> None:
    before, _ = drive(run, sweep_with(), 0)
    after, _ = drive(run, sweep_with(final={"seeds": 3}), 0)
    new = [t for t in after.trials if t.trial_id in trained(before, after)]
    assert [(t.stage, t.seed_index) for t in new] == [("final", 2), ("final", 2)]


def test_without_tune_arms_go_straight_to_their_finalists(run: RunDirectory) -> None:
    record, _ = drive(run, sweep_with(tune=None), 0)
    assert [(t.arm, t.stage, t.seed_index) for t in record.trials] == [
        ("good", "final", 0),
        ("good", "final", 1),
        ("hopeless", "final", 0),
        ("hopeless", "final", 1),
    ]


def test_tuning_seeds_repeat_every_configuration(run: RunDirectory) -> None:
    tune = {"space": {"training.learning_rate": {"grid": RATES[:2]}}, "seeds": 3}
    record, _ = drive(run, sweep_with(tune=tune), 0)
    assert len(record.of_arm("good", "tune")) == 6
    assert len({t.seed for t in record.of_arm("good", "tune")}) == 3


def test_a_step_that_is_in_the_log_is_not_counted_twice(run: RunDirectory) -> None:
    sweep = sweep_with()
    with Lease(run) as lease:
        ledger = Ledger(run, lease, resolve(sweep))
        searches = [ArmSearch(sweep, arm, fingerprints, ledger) for arm in sweep.arms]
        scheduler = ArmScheduler(sweep, ledger)
        config = ArmSearcher(searches, ledger, lambda: 1, {}).suggest("x")
        assert isinstance(config, dict)
        trial: Any = SimpleNamespace(config=config)
        for _ in range(2):
            scheduler.on_trial_result(None, trial, evaluate(config["trial"], 2))  # type: ignore[arg-type]
        assert ledger.trials[config["trial"]["trial_id"]].steps == 2
        assert (
            len((run.read_bytes(run.log_of(config["trial"]["trial_id"])) or b"").splitlines()) == 1
        )


def test_a_diverged_trial_ends_and_enters_no_rung(run: RunDirectory) -> None:
    sweep = sweep_with()
    with Lease(run) as lease:
        ledger = Ledger(run, lease, resolve(sweep))
        searches = [ArmSearch(sweep, arm, fingerprints, ledger) for arm in sweep.arms]
        scheduler = ArmScheduler(sweep, ledger)
        config = ArmSearcher(searches, ledger, lambda: 1, {}).suggest("x")
        assert isinstance(config, dict)
        trial: Any = SimpleNamespace(config=config)
        result = evaluate(config["trial"], 1) | {
            "diverged": True,
            "reason": "loss is nan",
            "validation_loss": None,
            "validation_accuracy": None,
            "train_loss": None,
        }
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP  # type: ignore[arg-type]
        ended = ledger.trials[config["trial"]["trial_id"]]
        assert (ended.status, ended.steps, ended.reason) == ("diverged", 1, "loss is nan")
        assert all(not values for values in rungs(scheduler.arms[ended.arm]).values())


def test_a_tuned_backbone_is_part_of_the_identity(run: RunDirectory) -> None:
    tune = {"space": {"model.backbone": {"grid": ["tiny-bert", "tiny-gpt2"]}}}
    record, _ = drive(run, sweep_with(tune=tune), 0)
    tuned = record.of_arm("good", "tune")
    assert [t.values["model.backbone"] for t in tuned] == ["tiny-bert", "tiny-gpt2"]


def test_one_configuration_in_two_spellings_is_trained_once(run: RunDirectory) -> None:
    before, _ = drive(run, sweep_with(tune={"space": {"training.dropout": {"grid": [0, 0.1]}}}), 0)
    respelled = {"space": {"training.dropout": {"grid": [0.0, 0.1, 0.2]}}}
    after, _ = drive(run, sweep_with(tune=respelled), 0)
    new = [t for t in after.trials if t.trial_id in trained(before, after)]
    assert [t.values for t in new if t.stage == "tune"] == [{"training.dropout": 0.2}] * 2
    orders = {"model.trained": {"grid": [["input", "output"], ["output", "input"]]}}
    other = RunDirectory(f"{run.uri}_2")
    record, _ = drive(other, sweep_with(tune={"space": orders}), 0)
    assert len(record.of_arm("good", "tune")) == 1


@pytest.mark.parametrize("kill_after", range(0, 60, 7))
def test_tuning_seeds_are_completed_after_a_kill(run: RunDirectory, kill_after: int) -> None:
    tune = {"space": {"training.learning_rate": {"grid": RATES[:2]}}, "seeds": 2}
    with pytest.raises(KilledError):
        drive(run, sweep_with(tune=tune), 0, kill_after=kill_after)
    record, _ = drive(run, sweep_with(tune=tune), 0)
    assert [len(record.of_arm(arm.name, "tune")) for arm in record.arms] == [4, 4]


def test_a_renamed_axis_renames_what_was_trained_before(run: RunDirectory) -> None:
    drive(run, sweep_with(), 0)
    gains = {"good": {"model.orthogonal_gain": 1.0}, "hopeless": {"model.orthogonal_gain": 2.0}}
    record, _ = drive(run, sweep_with(compare={"renamed": gains}), 0)
    assert {tuple(t.labels) for t in record.trials} == {("renamed",)}
