"""Packs against trials alone: what is sampled, what is a fault, and that faults are found."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fpt_ray.config import Grid, IntUniform, LogUniform, Sweep, Uniform
from fpt_ray.node_cache import CACHE_VARIABLE
from fpt_ray.seeding import trial_seed
from fpt_ray.training import Evaluation, Slope
from fpt_ray.training.pack.adam import PackAdam, RowAdam
from fpt_ray.verify import (
    MEASURES,
    Checked,
    Difference,
    Differences,
    Verification,
    compare,
    sample_trials,
    spread,
    verify_packs,
)
from fpt_ray.verify.traces import Trace

RATES = [1e-4, 1e-3, 3e-3, 1e-2]
LADDER = {
    "trained": {
        "output": {"model.trained": ["output"]},
        "+layer_norm": {"model.trained": ["output", "layer_norm"]},
        "+ends": {"model.trained": ["output", "layer_norm", "input", "positions"]},
    }
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def node_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "node_cache"))


def sweep_of(**changes: Any) -> Sweep:
    document = {
        "name": "demo",
        "task": {"name": "bit_xor"},
        "model": {"backbone": "tiny-gpt2", "init": "random"},
        "training": {"batch_size": 4, "max_steps": 2, "eval_every": 1, "grad_clip_norm": 0.1},
        "compare": LADDER,
        "tune": {"space": {"training.learning_rate": {"grid": RATES}}},
        "final": {"seeds": 2},
    }
    return Sweep.model_validate(document | changes)


def verify(sweep: Sweep, num_trials: int = 6, num_steps: int = 3) -> Verification:
    return verify_packs(sweep, num_trials, num_steps)


def printed(verification: Verification) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(verification.table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return " ".join(text.split())


def trials_of(verification: Verification) -> list[Checked]:
    return [trial for pack in verification.packs for trial in pack.trials]


# Samples


def test_samples_mix_arms_rates_and_the_seeds_of_both_stages() -> None:
    sweep = sweep_of()
    samples = sample_trials(sweep, 12, 20)
    assert {sample.arm for sample in samples} == set(LADDER["trained"])
    assert {sample.settings.training.learning_rate for sample in samples} == set(RATES)
    wanted = {("tune", 0), ("final", 0), ("final", 1)}
    assert {(s.stage, s.seed) for s in samples} == {(n, trial_seed(0, n, i)) for n, i in wanted}
    assert len({sample.name for sample in samples}) == 12


def test_samples_are_comparable_and_long_enough() -> None:
    precise = {"batch_size": 4, "max_steps": 2, "eval_every": 1, "precision": "bf16"}
    for sample in sample_trials(sweep_of(training=precise), 3, 20):
        training = sample.settings.training
        assert (training.dropout, training.precision) == (0.0, "fp32")
        assert training.max_steps == 20
        assert training.batch_size == 4


def test_fewer_trials_than_arms_are_spread_over_the_arms() -> None:
    assert [s.arm for s in sample_trials(sweep_of(), 2, 1)] == ["output", "+layer_norm"]


def test_a_sweep_without_a_search_has_its_finalists_only_and_each_once() -> None:
    samples = sample_trials(sweep_of(tune=None), 100, 1)
    assert len(samples) == 3 * 2
    assert {sample.stage for sample in samples} == {"final"}


def test_tuned_values_cover_their_domains_evenly() -> None:
    space = {
        "a": Grid(grid=(1, 2, 3, 4, 5)),
        "b": LogUniform(log_uniform=(1e-4, 1e-2)),
        "c": Uniform(uniform=(0.0, 1.0)),
        "d": IntUniform(int_uniform=(1, 3)),
    }
    drawn = [spread(space, number) for number in range(20)]
    assert {values["a"] for values in drawn[:8]} == {1, 2, 3, 4, 5}
    assert sum(values["b"] < 1e-3 for values in drawn) in range(8, 13)
    assert sum(values["c"] < 0.5 for values in drawn) in range(8, 13)
    assert {values["d"] for values in drawn} == {1, 2, 3}
    assert all(1e-4 <= values["b"] <= 1e-2 for values in drawn)


# Packs


def test_packs_train_as_trials_do_alone() -> None:
    verification = verify(sweep_of(), num_steps=4)
    assert verification.equal
    assert {len(pack.trials) for pack in verification.packs} == {1, 2}
    mixed = max(verification.packs, key=lambda pack: len(pack.trials))
    assert len({trial.sample.arm for trial in mixed.trials}) == 2
    assert len({trial.sample.values["training.learning_rate"] for trial in mixed.trials}) == 2
    assert all(trial.found.loss.value <= 1e-6 for trial in trials_of(verification))


def test_what_differs_from_the_file_and_packs_of_one_are_told() -> None:
    text = printed(verify(sweep_of()))
    assert "Dropout, 0.1 in the file, is 0 here" in text
    assert "1: a single trial" in text
    assert "2: 2 trials" in text
    assert "Equal: trials in packs train as they do alone." in text


def test_without_dropout_nothing_is_said_of_it() -> None:
    training = {"batch_size": 4, "max_steps": 2, "eval_every": 1, "dropout": 0.0}
    assert "Dropout" not in printed(verify(sweep_of(training=training), 2, 1))


def test_a_wrong_learning_rate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    make = PackAdam.__init__

    def same_for_all(self: PackAdam, *arguments: Any) -> None:
        make(self, *arguments)
        self.recipes = [self.recipes[0]] * len(self.recipes)

    monkeypatch.setattr(PackAdam, "__init__", same_for_all)
    assert_found(verify(sweep_of()), "parameters")


def test_clipping_all_trials_together_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    update = RowAdam.update

    def coupled(self: RowAdam, norms: torch.Tensor, skipped: Any) -> None:
        update(self, norms.norm().expand_as(norms), skipped)

    monkeypatch.setattr(RowAdam, "update", coupled)
    assert_found(verify(sweep_of()), "loss")


def assert_found(verification: Verification, measure: str) -> None:
    faulty = [trial for trial in trials_of(verification) if trial.faults(1e-5)]
    assert not verification.equal
    assert any(measure in trial.faults(1e-5) for trial in faulty)
    # A pack of one has nobody to be mistaken for.
    alone = [pack.trials[0] for pack in verification.packs if len(pack.trials) == 1]
    assert alone
    assert not any(trial.faults(1e-5) for trial in alone)
    text = printed(verification)
    assert f"NOT EQUAL: {len(faulty)} of 6 trials train otherwise in packs." in text
    assert f"{faulty[0].sample.name}: " in text


def test_a_trial_that_diverges_does_so_in_both_and_leaves_the_others_alone() -> None:
    space = {"training.learning_rate": {"grid": [1e-3, 1e30]}}
    verification = verify(sweep_of(tune={"space": space}), num_steps=4)
    assert verification.equal
    endings = {
        trial.found.parameters.where.partition(" at")[0] for trial in trials_of(verification)
    }
    assert "diverged" in endings
    assert len(endings) > 1


def test_the_result_is_json_with_every_trial() -> None:
    document = json.loads(json.dumps(verify(sweep_of()).to_json(), allow_nan=False))
    assert document["equal"]
    assert document["limits"]["parameters"] == pytest.approx(1e-3)
    assert sum(len(pack["trials"]) for pack in document["packs"]) == 6
    for pack in document["packs"]:
        assert pack["largest"].keys() == MEASURES.keys()


# Measures


def trace(
    loss: float = 0.5, gradient: float = 1.0, end: float = 2.0, diverged: bool = False
) -> Trace:
    evaluation = Evaluation(1, loss, loss, 0.5, 0.0, 0.0, diverged=diverged)
    # A gradient that is nothing but rounding, beside one that is not.
    gradients = {"large": torch.tensor([gradient]), "small": torch.tensor([gradient * 1e-9])}
    return Trace(
        start={"weight": torch.tensor([1.0])},
        end={"weight": torch.tensor([end])},
        evaluations=[evaluation],
        slopes={0: Slope(loss, gradients)},
    )


def test_equal_traces_are_zero_apart() -> None:
    found = compare(trace(), trace())
    assert [found.of(name).value for name in MEASURES] == [0.0] * 4
    assert found.beyond(0.0) == []


def test_losses_are_compared_relative_to_the_loss() -> None:
    found = compare(trace(loss=0.55), trace(loss=0.5))
    assert found.loss.value == pytest.approx(0.1)
    assert found.loss.where in ("step 1", "validation after step 1")


def test_gradients_are_compared_relative_to_all_gradients_together() -> None:
    noisy = trace()
    noisy.slopes[0].gradients["small"].mul_(-1)
    assert compare(noisy, trace()).first_gradients.value == pytest.approx(2e-9, rel=1e-3)
    found = compare(trace(gradient=1.1), trace()).first_gradients
    assert found.value == pytest.approx(0.1, rel=1e-3)
    assert found.where == "large"


def test_parameters_are_compared_relative_to_how_far_they_moved() -> None:
    assert compare(trace(end=2.01), trace(end=2.0)).parameters.value == pytest.approx(
        0.01, rel=1e-3
    )
    assert compare(trace(end=2.0), trace(end=1.0)).parameters.value == math.inf


def test_a_trial_that_diverges_in_one_only_is_infinitely_far() -> None:
    found = compare(trace(diverged=True), trace())
    assert all(found.of(name).value == math.inf for name in MEASURES)
    assert found.loss.where == "packed it diverged at step 1, alone it did not diverge"


def test_what_is_not_a_number_is_beyond_every_limit() -> None:
    found = compare(trace(gradient=math.nan, end=math.nan), trace())
    assert set(found.beyond(1e9)) == {"first_gradients", "last_gradients", "parameters"}


def differences(loss: float) -> Differences:
    return Differences(*(Difference(loss if name == "loss" else 0.0, "") for name in MEASURES))


@pytest.mark.parametrize(
    ("found", "control", "faults"),
    [
        (1e-6, None, []),
        (1e-4, None, ["loss"]),
        (1e-4, 1e-6, ["loss"]),
        (1e-4, 1e-4, []),
        (math.inf, 1e-4, ["loss"]),
    ],
)
def test_what_rounding_alone_would_do_is_no_fault(
    found: float, control: float | None, faults: list[str]
) -> None:
    sample = sample_trials(sweep_of(), 1, 1)[0]
    checked = Checked(sample, differences(found), None if control is None else differences(control))
    assert checked.faults(1e-5) == faults
