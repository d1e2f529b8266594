"""Settings survive JSON, and trials are named by what they compute."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fpt_ray.config import BitMemory, BitXor, Mnist, TrialSettings, trial_id
from fpt_ray.config.tasks import TASKS

small = st.integers(1, 10**6)
positive = st.floats(1e-12, 1e6)
folders = st.none() | st.sampled_from(["data", "/data", ""])
fractions = st.floats(0, 1, exclude_max=True)

tasks = st.one_of(
    st.builds(BitXor, patterns=st.integers(2, 9), length=small),
    st.builds(
        lambda patterns, tokens, bits: BitMemory(
            patterns=patterns, length=tokens * bits, token_bits=bits
        ),
        small,
        st.integers(1, 1000),
        st.integers(1, 1000),
    ),
    st.builds(Mnist, patch_size=st.sampled_from([1, 2, 4, 7, 14, 28])),
)
models = st.fixed_dictionaries(
    {"backbone": st.sampled_from(["gpt2", "owner/name", "minilm-l6"])},
    optional={
        "init": st.sampled_from(["pretrained", "random"]),
        "trained": st.lists(st.sampled_from(["input", "all", "attention[-1]"]), min_size=1),
        "num_layers": st.none() | small,
        "orthogonal_gain": positive,
        "input_mlp": st.lists(small, max_size=3),
        "extend_positions": st.none() | small,
    },
)
optimizers = st.fixed_dictionaries({}, optional={"beta1": fractions, "epsilon": positive})
trainings = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": positive | small,
        "batch_size": small,
        "max_steps": small,
        "optimizer": optimizers,
        "grad_clip_norm": st.none() | positive,
        "dropout": fractions,
        "precision": st.sampled_from(["fp32", "bf16"]),
        "test_size": st.none() | small,
    },
)
datas = st.fixed_dictionaries({}, optional={"dir": folders})


@st.composite
def settings(draw: st.DrawFn) -> TrialSettings:
    sections = {"model": draw(models), "training": draw(trainings), "data": draw(datas)}
    return TrialSettings.model_validate({"task": draw(tasks), **sections})


def identify(trial: TrialSettings) -> str:
    return trial_id(trial, 0, {"backbone": "b", "data": "d"})


@given(settings())
def test_settings_survive_json(trial):
    text = json.dumps(trial.model_dump(mode="json"))
    assert TrialSettings.model_validate(json.loads(text)) == trial
    assert TrialSettings.model_validate(trial.compact()) == trial


@given(settings(), small, folders)
def test_more_steps_or_data_elsewhere_is_the_same_trial(trial, max_steps, folder):
    changed = trial.with_values({"training.max_steps": max_steps, "data.dir": folder})
    moved = changed.with_values({"data.mode": "materialized", "model.backbone": "elsewhere"})
    computed = moved.with_values({"data.cache_features": "off"})
    assert identify(computed) == identify(moved) == identify(trial)


@given(settings())
def test_spelling_out_defaults_is_the_same_trial(trial):
    explicit = TrialSettings.model_validate(trial.model_dump(mode="json"))
    assert identify(explicit) == identify(trial) == identify(trial.with_values({}))


@given(settings(), positive)
def test_another_learning_rate_is_another_trial(trial, learning_rate):
    changed = trial.with_values({"training.learning_rate": learning_rate})
    same = learning_rate == trial.training.learning_rate
    assert (identify(changed) == identify(trial)) is same


@given(settings(), small, small)
def test_another_seed_is_another_trial(trial, one, other):
    names = {trial_id(trial, seed, {}) for seed in (one, other)}
    assert len(names) == len({one, other})


def example(**model: Any) -> TrialSettings:
    return TrialSettings.model_validate(
        {"task": {"name": "bit_xor"}, "model": {"backbone": "gpt2", **model}}
    )


def test_names_stay_what_they_were():
    assert identify(example()) == identify(example(num_layers=None))
    assert trial_id(example(), 7, {"backbone": "b", "data": "d"}) == "d92d97440fb3"


def test_other_weights_or_data_are_another_trial():
    fingerprints = [{"backbone": "b"}, {"backbone": "c"}, {"backbone": "b", "data": "d"}]
    assert len({trial_id(example(), 0, one) for one in fingerprints}) == 3


def test_the_order_of_selectors_is_of_no_account():
    assert identify(example(trained=["input", "output"])) == identify(
        example(trained=["output", "input", "output"])
    )
    default = ["positions", "layer_norm", "output", "input"]
    assert identify(example(trained=default)) == identify(example())


def test_inits_are_told_apart_but_not_the_places_of_checkpoints():
    drawn = [example(), example(init="random"), example(init="statistics")]
    here, there = (example(init={"checkpoint": f"/{place}#arm"}) for place in ("here", "there"))
    assert identify(here) == identify(there)
    assert len({identify(one) for one in (*drawn, here)}) == 4


def test_tasks_are_told_apart_by_name_alone():
    names = {identify(example().with_values({"task": {"name": task}})) for task in TASKS}
    assert len(names) == len(TASKS)
