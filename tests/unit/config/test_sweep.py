"""The typed sweep: arms, budgets and immutability."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from fpt_ray.config import BitMemory, BitXor, Mnist, Sweep, Tune, load_sweep
from fpt_ray.config.tasks import nearest_divisor

BASE: dict[str, Any] = {
    "name": "s",
    "task": {"name": "bit_xor"},
    "model": {"backbone": "gpt2"},
    "training": {"dropout": 0.2, "max_steps": 100},
}
AXES = {
    "trained": {
        "output": {"model.trained": ["output"]},
        "+input": {"model.trained": ["output", "input"]},
    },
    "init": {"pretrained": {}, "random": {"model.init": "random"}},
}


def sweep(**fields: Any) -> Sweep:
    return Sweep.model_validate({**BASE, **fields})


def test_arms_are_the_product_of_the_axes_in_file_order():
    assert [arm.name for arm in sweep(compare=AXES).arms] == [
        "output/pretrained",
        "output/random",
        "+input/pretrained",
        "+input/random",
    ]


def test_arms_know_their_labels_and_settings():
    arm = sweep(compare=AXES).arms[3]
    assert arm.labels == {"trained": "+input", "init": "random"}
    assert arm.settings.model.trained == ("output", "input")
    assert arm.settings.model.init == "random"
    assert arm.settings.training.dropout == 0.2


def test_without_axes_there_is_one_arm():
    (arm,) = sweep().arms
    assert (arm.name, arm.labels, arm.settings) == ("default", {}, sweep().base)


def test_sections_are_replaced_before_keys_are_refined():
    axes = {
        "first": {"a": {"model.num_layers": 2}},
        "second": {"b": {"model": {"backbone": "tiny-bert"}, "training.optimizer.beta1": 0.5}},
    }
    (arm,) = sweep(model={"backbone": "gpt2", "init": "random"}, compare=axes).arms
    assert (arm.settings.model.backbone, arm.settings.model.init) == ("tiny-bert", "pretrained")
    assert arm.settings.model.num_layers == 2
    assert arm.settings.training.optimizer.beta1 == 0.5
    assert axes["second"]["b"]["model"] == {"backbone": "tiny-bert"}


def test_an_arm_may_have_another_task():
    (arm,) = sweep(compare={"t": {"m": {"task": {"name": "mnist"}}}}).arms
    assert arm.settings.task == Mnist()


def test_the_reference_is_the_first_arm_unless_named():
    assert sweep(compare=AXES).reference_arm.name == "output/pretrained"
    named = sweep(compare=AXES, reference={"init": "random", "trained": "+input"})
    assert named.reference_arm.name == "+input/random"


@pytest.mark.parametrize(
    ("tune", "configurations", "trials"),
    [
        ({"space": {"a": {"grid": [1, 2]}, "b": {"grid": [1, 2, 3]}}, "seeds": 2}, 6, 12),
        (
            {
                "space": {"a": {"log_uniform": [0.1, 1]}},
                "searcher": {"name": "optuna", "num_trials": 7},
            },
            7,
            7,
        ),
        (
            {
                "space": {"a": {"int_uniform": [1, 4]}, "b": {"choice": ["x", "y"]}},
                "searcher": {"name": "random", "num_trials": 8},
            },
            8,
            8,
        ),
    ],
)
def test_budgets_are_counted(tune, configurations, trials):
    tuned = sweep(tune=tune, compare=AXES, final={"seeds": 3})
    assert tuned.tune is not None
    assert tuned.tune.num_configurations == configurations
    assert tuned.tune.num_trials == trials
    assert (tuned.num_tune_trials, tuned.num_final_trials) == (4 * trials, 12)


def test_without_tune_nothing_is_searched():
    assert sweep().num_tune_trials == 0


@pytest.mark.parametrize(
    ("metric", "direction"), [("validation_accuracy", "max"), ("validation_loss", "min")]
)
def test_the_direction_follows_from_the_metric(metric, direction):
    tune = Tune.model_validate({"space": {"a": {"grid": [1]}}, "metric": metric})
    assert tune.direction == direction


@pytest.mark.parametrize(
    ("domain", "what"),
    [
        ({"grid": [1, 1.0]}, "1.0 is listed twice"),
        ({"choice": ["a", "a"]}, "'a' is listed twice"),
        ({"log_uniform": [0, 1]}, "the bounds of log_uniform must be above 0, and 0.0 is not"),
        ({"log_uniform": [1e-2, 1e-4]}, "the low end 0.01 of log_uniform is not below the high"),
        ({"uniform": [1, 1]}, "the low end 1.0 of uniform is not below the high end 1.0"),
        ({"int_uniform": [3, 2]}, "the low end 3 of int_uniform is not below the high end 2"),
    ],
)
def test_domains_hold_something_to_search(domain, what):
    with pytest.raises(ValidationError, match=what):
        Tune.model_validate({"space": {"a": domain}})


@pytest.mark.parametrize(
    ("domain", "problem"),
    [
        ("{gird: [1]}", "3:40: training.learning_rate needs values to search"),
        ("[1]", "3:40: training.learning_rate needs values to search"),
        ("{uniform: [1]}", "3:41: uniform of training.learning_rate takes a low and a high end"),
        ("{uniform: [1, 2, 3]}", "3:50: uniform of training.learning_rate takes a low and a high"),
        ("{grid: [1], choice: [2]}", "3:52: unknown key 'choice' in tune.space.training"),
    ],
)
def test_malformed_domains_are_refused(refuse, domain, problem):
    found = refuse(f"tune: {{space: {{training.learning_rate: {domain}}}}}\n")
    assert len(found) == 1
    assert found[0].startswith(f"s.yaml:{problem}")


def test_true_and_one_are_different_values():
    tune = Tune.model_validate({"space": {"a": {"grid": [1, True]}}})
    assert tune.num_configurations == 2


@pytest.mark.parametrize(
    ("task", "seq_length"),
    [
        (BitXor(), 10),
        (BitMemory(), 120),
        (Mnist(), 49),
        (Mnist(image_size=32), 64),
        (Mnist(patch_size=1), 784),
    ],
)
def test_sequences_have_the_published_lengths(task, seq_length):
    assert task.seq_length == seq_length


@pytest.mark.parametrize(
    ("task", "what", "fix"),
    [
        ({"name": "bit_memory", "length": 90}, "token_bits 50 does not divide length 90", "45"),
        ({"name": "mnist", "patch_size": 6}, "patch_size 6 does not divide image_size 28", "7"),
        ({"name": "mnist", "image_size": 29}, "28 pixels cannot be padded evenly to 29", "28"),
    ],
)
def test_impossible_geometry_is_refused(task, what, fix):
    with pytest.raises(ValidationError, match=what) as caught:
        sweep(task=task)
    assert caught.value.errors()[0]["ctx"]["fix"].endswith(f": {fix}")


def test_the_nearest_divisor_is_found():
    assert [nearest_divisor(28, wanted) for wanted in (1, 3, 6, 100)] == [1, 2, 7, 28]


def test_a_sweep_survives_json():
    tune = {"space": {"training.learning_rate": {"log_uniform": [1e-4, 1]}}}
    tune["searcher"] = {"name": "optuna", "num_trials": 3}
    published = [{"table": "T15", "arms": {"output/random": "row"}}]
    one = sweep(compare=AXES, tune=tune, published=published, resources={"pack": 4})
    assert Sweep.model_validate_json(one.model_dump_json()) == one


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        sweep().training.dropout = 0.3


def test_the_name_is_the_files_stem_by_default(write):
    assert load_sweep(write("")).name == "s"
    assert load_sweep(write("name: other\n")).name == "other"


def test_keys_are_text_even_if_they_look_like_numbers(write):
    rest = "compare: {rate: {1e-3: {}, 0.1: {training.learning_rate: 0.1}}}\n"
    sweep = load_sweep(write(rest + "reference: {rate: '0.1'}\n"))
    assert [arm.name for arm in sweep.arms] == ["1e-3", "0.1"]
    assert sweep.reference_arm.name == "0.1"


def test_scalars_are_those_of_yaml_1_2(write):
    sweep = load_sweep(write("name: 2026-01-01\nstorage: no\nseed: 0x10\n"))
    assert (sweep.name, sweep.storage, sweep.seed) == ("2026-01-01", "no", 16)


def test_loading_imports_nothing_heavy(write):
    code = (
        "import sys, pathlib; from fpt_ray.config import load_sweep;"
        f"load_sweep(pathlib.Path({str(write(''))!r}));"
        "sys.exit(bool({'torch', 'ray', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
