"""A trial does not depend on its company: who it is, how many, who comes and goes when."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fpt_ray import cores
from fpt_ray.config import TrialSettings
from fpt_ray.training import Pack, build_trainer, prepare_trial
from fpt_ray.training.pack.rows import Rows
from tests.unit.training.pack.trials import (
    FAMILIES,
    NO_TABLE,
    Packs,
    assert_values_close,
    copies,
    figures,
    prepare_all,
)

MakeSettings = Callable[..., TrialSettings]

MEMBERS: list[dict[str, Any]] = [
    {"training__learning_rate": 1e-3},
    {"training__learning_rate": 1e-2, "model__trained": ["input", "output", "layer_norm[0]"]},
    {"training__learning_rate": 3e-3, "training__grad_clip_norm": 0.1},
    {"training__learning_rate": 2e-2, "model__trained": ["input", "output"]},
]
MOST_STEPS = 8
TRAINED = ["input", "output", "layer_norm"]

Round = tuple[list[int], int]
"""Who trains together, in which order, and how many steps."""

rounds = st.lists(
    st.tuples(
        st.lists(st.sampled_from(range(len(MEMBERS))), min_size=1, unique=True),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture
def jobs(settings_of: MakeSettings) -> list[tuple[TrialSettings, int]]:
    """Trials of different seeds that may share a pack."""
    return [(settings_of(**values), seed) for seed, values in enumerate(MEMBERS)]


def test_no_company_changes_what_a_trial_learns(
    jobs: list[tuple[TrialSettings, int]],
) -> None:
    expected = [history(*job) for job in jobs]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(rounds)
    def holds(schedule: list[Round]) -> None:
        trials = prepare_all(jobs)
        for trial, values in zip(trials, expected, strict=True):
            assert all(torch.equal(trial.values()[name], values[0][name]) for name in values[0])
        pack = Pack(trials[0])
        for members, num_steps in schedule:
            chosen = [trials[index] for index in members]
            allowed = min(MOST_STEPS - trial.step for trial in chosen)
            pack.train(chosen, min(num_steps, allowed))
        for trial, values in zip(trials, expected, strict=True):
            assert_values_close(trial.values(), values[trial.step])

    holds()


@pytest.mark.skipif(not cores.made_by_intel(), reason="no other processor is told to round alike")
@pytest.mark.parametrize("family", FAMILIES)
def test_no_company_changes_a_bit(settings_of: MakeSettings, family: str) -> None:
    own_table = () if family in NO_TABLE else ("positions",)
    values: list[dict[str, Any]] = [
        {"training__learning_rate": 1e-2},
        {"training__learning_rate": 1e-3, "training__grad_clip_norm": 0.05},
        {"model__trained": [*TRAINED, *own_table], "training__grad_clip_norm": 0.1},
    ]
    jobs = [
        (settings_of(family, **({"model__trained": TRAINED} | each)), seed)
        for seed, each in enumerate(values)
    ]
    together, packs = prepare_all(jobs), Packs()
    apart, others = prepare_all(jobs), Packs()
    for _ in range(3):
        evaluations = packs.advance(together, 2)
        for found, trial in zip(evaluations, apart, strict=True):
            (expected,) = others.advance([trial], 2)
            # What losses are added up in does depend on how many sequences are read at a time.
            assert figures(found) == pytest.approx(figures(expected), rel=1e-12)
    for trial, other in zip(together, apart, strict=True):
        for name, value in other.values().items():
            assert torch.equal(trial.values()[name], value), name


def history(of: TrialSettings, seed: int) -> list[dict[str, torch.Tensor]]:
    """The trained parameters of a trial alone, before and after each step."""
    trainer = build_trainer(of, seed)
    found = [{name: value.clone() for name, value in trainer.values().items()}]
    for _ in range(MOST_STEPS):
        trainer.advance(1)
        found.append({name: value.clone() for name, value in trainer.values().items()})
    return found


def test_evaluation_does_not_need_the_whole_pack(jobs: list[tuple[TrialSettings, int]]) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    pack.train(trials, 3)
    states = [trial.state() for trial in trials]
    several = pack.evaluate(trials[1:3])
    fresh = prepare_all(jobs)
    for trial, state in zip(fresh, states, strict=True):
        trial.load_state(state)
    other = Pack(fresh[0])
    for found, trial in zip(several, fresh[1:3], strict=True):
        (expected,) = other.evaluate([trial])
        assert figures(found)[2:] == pytest.approx(figures(expected)[1:], rel=1e-6)
    pack.train(trials, 2)
    assert [trial.step for trial in trials] == [5] * len(trials)


def test_a_trial_that_leaves_takes_its_numbers_along(
    jobs: list[tuple[TrialSettings, int]],
) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    pack.train(trials, 2)
    gone, before = trials[1], copies(trials[1])
    pack.train([trials[0], trials[2]], 3)
    assert all(torch.equal(gone.values()[name], before[name]) for name in before)
    assert {v.untyped_storage().data_ptr() for v in gone.values().values()}.isdisjoint(
        v.untyped_storage().data_ptr() for v in trials[0].values().values()
    )
    own = sum(shape.numel() for shape in gone.numbers.layout.shapes.values())
    assert gone.numbers.values.untyped_storage().nbytes() <= 4 * (own + 1000)


def test_a_trial_may_go_to_another_pack_and_come_back(
    jobs: list[tuple[TrialSettings, int]],
) -> None:
    trials = prepare_all(jobs)
    first, second = Pack(trials[0]), Pack(trials[1])
    first.train(trials[:2], 2)
    second.train(trials[1:], 2)
    first.train(trials[:2], 2)
    for trial, job in zip(trials, jobs, strict=True):
        assert_values_close(trial.values(), history(*job)[trial.step])


def test_a_dropped_trial_is_not_kept_alive(jobs: list[tuple[TrialSettings, int]]) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    pack.train(trials, 1)
    gone = weakref.ref(trials.pop(0))
    gc.collect()
    assert gone() is None
    pack.train(trials, 1)
    assert [trial.step for trial in trials] == [2, 2, 2]


def test_steps_end_where_the_first_trial_does(settings_of: MakeSettings) -> None:
    short = prepare_trial(settings_of(training__max_steps=3), 0)
    trials = [short, *prepare_all([(settings_of(), 1)])]
    pack = Packs().of(short)
    assert pack.train(trials, 10) == 3
    assert short.finished
    assert pack.train(trials, 10) == 0
    assert pack.train(trials[1:], 10) == 10


def test_training_ends_after_the_step_in_which_it_is_interrupted(
    jobs: list[tuple[TrialSettings, int]],
) -> None:
    trials, answers = prepare_all(jobs), iter([False, False, True])
    pack = Pack(trials[0])
    assert pack.train(trials, 8, lambda: next(answers)) == 3
    assert [trial.step for trial in trials] == [3] * len(trials)


def test_strangers_and_twins_are_refused(
    settings_of: MakeSettings, jobs: list[tuple[TrialSettings, int]]
) -> None:
    trials = prepare_all(jobs)
    stranger = prepare_trial(settings_of(training__batch_size=8), 0)
    pack = Pack(trials[0])
    for use in (pack.slopes, pack.evaluate, pack.test, lambda these: pack.train(these, 1)):
        with pytest.raises(ValueError, match="a trial of another key cannot be in this pack"):
            use([trials[0], stranger])
        with pytest.raises(ValueError, match="a trial cannot be in a pack twice"):
            use([trials[0], trials[0]])
    with pytest.raises(ValueError, match="a trial of another key cannot be in this pack"):
        pack.rehearse(stranger, 2)


def test_a_rehearsal_changes_nothing(jobs: list[tuple[TrialSettings, int]]) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    pack.train(trials, 2)
    before = [trial.state() for trial in trials]
    generator = torch.get_rng_state()
    assert all(pack.rehearse(trials[1], copies) > 0 for copies in (1, 5))
    assert [trial.state() for trial in trials] == before
    assert torch.equal(torch.get_rng_state(), generator)
    pack.train(trials, 1)
    for trial, job in zip(trials, jobs, strict=True):
        assert_values_close(trial.values(), history(*job)[3])


def test_a_rehearsal_keeps_no_memory(jobs: list[tuple[TrialSettings, int]]) -> None:
    (trial,) = prepare_all(jobs[:1])
    pack = Pack(trial)
    before = num_rows()
    pack.rehearse(trial, 3)
    assert num_rows() == before
    values = pack._bench._computation().model._stacked[0][0]._values
    assert values == {}
    assert pack.train([trial], 1) == 1


def num_rows() -> int:
    """Count the buffers that are alive."""
    gc.collect()
    return sum(type(found) is Rows for found in gc.get_objects())


def test_training_leaves_the_global_generator_alone(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(training__dropout=0.2), seed) for seed in range(2)])
    before = torch.get_rng_state()
    Packs().advance(trials, 2)
    assert torch.equal(torch.get_rng_state(), before)
