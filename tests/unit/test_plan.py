"""The cost estimate: operations by hand and by torch's own counter, and what depends on what."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from fpt_ray.config import Sweep, TrialSettings
from fpt_ray.plan import Machine, Operations, Plan, count_operations, measure, plan_sweep
from fpt_ray.plan.operations import num_evaluated
from fpt_ray.tasks import build_task
from fpt_ray.training import build_trainer, describe

DATA = Path(__file__).parents[1] / "data"
MACHINE = Machine("a device", 1e9, 0.5)
ENDS = ["input", "output", "layer_norm", "positions"]

# tiny-gpt2: 2 blocks, width 32, feed-forward 128; bit_xor: 10 tokens of 1 feature, 5 are read,
# 2 logits each.
BLOCK = 10 * 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
ATTENTION = 4 * 10**2 * 32
INPUT, OUTPUT = 10 * 2 * 32, 5 * 2 * 32 * 2


def settings_of(task: str = "bit_xor", **model: Any) -> TrialSettings:
    described = {"backbone": "tiny-gpt2", "init": "random", **model}
    if described.get("name", "fpt") != "fpt":
        described = model
    return TrialSettings.model_validate(
        {
            "task": {"name": task},
            "data": {"dir": str(DATA)},
            "training": {"validation_size": 10},
            "model": described,
        }
    )


def operations_of(settings: TrialSettings) -> Operations:
    return count_operations(settings, describe(settings))


def counted_by_torch(settings: TrialSettings) -> Operations:
    """What torch's counter sees in a forward and a backward pass over one sequence."""
    task = build_task(settings)
    model = build_trainer(settings, 0)._model
    spec = task.spec
    if spec.input_kind == "ids":
        tokens = torch.zeros(1, spec.seq_length, dtype=torch.int64)
    else:
        tokens = torch.ones(1, spec.seq_length, spec.input_size)
    with FlopCounterMode(display=False) as forward:
        loss = model(tokens).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return Operations(forward.get_total_flops(), backward.get_total_flops())


def plan_of(**changes: Any) -> Plan:
    document = {
        "name": "demo",
        "task": {"name": "bit_xor"},
        "model": {"backbone": "tiny-gpt2", "init": "random"},
        "training": {"batch_size": 4, "max_steps": 90, "eval_every": 10},
        "final": {"seeds": 2},
    }
    return plan_sweep(Sweep.model_validate(document | changes), MACHINE)


def test_operations_of_a_frozen_transformer_are_those_counted_by_hand() -> None:
    forward = INPUT + 2 * (BLOCK + ATTENTION) + OUTPUT
    through_blocks = 2 * (BLOCK + 2 * ATTENTION)
    assert operations_of(settings_of(trained=ENDS)) == Operations(
        forward, through_blocks + INPUT + 2 * OUTPUT
    )
    assert operations_of(settings_of(trained=["output"])) == Operations(forward, OUTPUT)
    assert operations_of(settings_of(trained=["all"])) == Operations(
        forward, through_blocks + 2 * BLOCK + INPUT + 2 * OUTPUT
    )


@pytest.mark.parametrize("backbone", ["tiny-gpt2", "tiny-bert", "tiny-t5", "tiny-vit"])
@pytest.mark.parametrize(
    "trained",
    [
        ["output"],
        ["output", "layer_norm"],
        ENDS,
        ["all"],
        [*ENDS, "attention"],
        ["output", "feed_forward[-1]"],
        ["input", "output", "attention[-1]"],
    ],
    ids="+".join,
)
def test_operations_are_those_that_torch_counts(backbone: str, trained: list[str]) -> None:
    settings = settings_of(backbone=backbone, trained=trained)
    assert operations_of(settings) == counted_by_torch(settings)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "no_backbone", "hidden_size": 8},
        {"name": "no_backbone", "hidden_size": 8, "input_mlp": [4], "output_mlp": [6]},
        {"backbone": "tiny-gpt2", "num_layers": 1, "extend_positions": 1024},
    ],
    ids=["no backbone", "MLP ends", "one block"],
)
@pytest.mark.parametrize("task", ["mnist", "listops"])
def test_operations_of_other_models_are_those_that_torch_counts(
    model: dict[str, Any], task: str
) -> None:
    settings = settings_of(task, **model)
    if task == "listops":
        short = {"max_length": 24, "max_depth": 3, "train_size": 60}
        settings = settings.with_values({"task": {"name": task, **short}})
        settings = settings.with_values({"data.mode": "generated"})
    assert operations_of(settings) == counted_by_torch(settings)


def test_operations_of_an_lstm_are_those_counted_by_hand() -> None:
    lstm = {"name": "lstm", "hidden_size": 8, "num_layers": 2}
    recurrent = 10 * 2 * 2 * (4 * 8) * (8 + 8)
    ends = 10 * 2 * 8 + 5 * 2 * 8 * 2
    counted = operations_of(settings_of(**lstm))
    assert counted.forward == recurrent + ends
    assert counted.backward == 2 * recurrent + 10 * 2 * 8 + 2 * 5 * 2 * 8 * 2


def test_a_step_of_the_output_layer_alone_costs_little_more_than_its_forward_pass() -> None:
    alone, ladder, whole = (
        operations_of(settings_of(trained=trained)) for trained in (["output"], ENDS, ["all"])
    )
    assert alone.forward == ladder.forward == whole.forward
    assert alone.backward < alone.forward / 100
    assert ladder.backward > alone.forward
    assert whole.backward > 1.8 * ladder.backward


def test_the_higher_training_begins_the_cheaper_it_is() -> None:
    steps = [operations_of(settings_of(trained=["output", f"layer_norm[{n}]"])) for n in (0, 1)]
    assert steps[0].backward > steps[1].backward > 0


def test_cost_grows_with_steps_batch_layers_and_evaluations() -> None:
    cheapest = plan_of(model={"backbone": "tiny-gpt2", "init": "random", "num_layers": 1})
    plans = [cheapest, plan_of()]
    base = {"batch_size": 4, "max_steps": 90, "eval_every": 10}
    for change in ({"batch_size": 8}, {"max_steps": 180}, {"eval_every": 5}):
        assert most_flop(plan_of(training=base | change)) > most_flop(plan_of())
    assert most_flop(plans[0]) < most_flop(plans[1])


def most_flop(plan: Plan) -> int:
    flop: int = plan.to_json()["estimate"]["most_flop"]
    return flop


def test_arms_that_differ_in_the_learning_rate_only_cost_the_same() -> None:
    rates = {"slow": {"training.learning_rate": 1e-4}, "fast": {"training.learning_rate": 1e-2}}
    slow, fast = plan_of(compare={"rate": rates}).to_json()["arms"]
    assert {**slow, "arm": ""} == {**fast, "arm": ""}


def test_a_plan_adds_up_steps_evaluations_and_tests() -> None:
    (arm,) = plan_of().arms
    operations = arm.operations
    sizes = {"validation": 1024, "test": 4096}
    steps = 2 * 90 * 4 * (operations.forward + operations.backward)
    evaluated = (2 * 9 * sizes["validation"] + 2 * sizes["test"]) * operations.forward
    assert arm.total_operations(arm.most_steps) == steps + evaluated
    assert arm.to_json(MACHINE)["most_device_hours"] == (steps + evaluated) / 0.5e9 / 3600


def test_early_stopping_gives_a_range() -> None:
    space = {"training.learning_rate": {"grid": [1e-4, 1e-3, 1e-2]}}
    stopped = plan_of(
        tune={"space": space, "scheduler": {"name": "asha", "grace_period": 10}}
    ).to_json()["estimate"]
    assert stopped["least_flop"] < stopped["most_flop"]
    assert stopped["least_device_hours"] < stopped["most_device_hours"]
    whole = plan_of(tune={"space": space}).to_json()["estimate"]
    assert whole["least_flop"] == whole["most_flop"] == stopped["most_flop"]


def test_the_plan_says_what_it_assumes() -> None:
    out = io.StringIO()
    Console(file=out, width=300).print(plan_of().table())
    assert "an estimated " in out.getvalue()
    assert "50% of the 0.001 TFLOP/s that a large matrix product reached on a device" in (
        out.getvalue()
    )
    estimate = plan_of().to_json()["estimate"]
    assert (estimate["device"], estimate["utilisation"]) == ("a device", 0.5)


def test_a_device_twice_as_fast_needs_half_the_hours() -> None:
    fast = replace(MACHINE, flops_per_s=2e9)
    assert fast.hours(1e15) == MACHINE.hours(1e15) / 2


def test_the_device_of_this_machine_is_measured() -> None:
    machine = measure(wanted="cpu")
    assert machine.flops_per_s > 1e8
    assert 0 < machine.utilisation <= 1
    assert "CPU with" in machine.device


@pytest.mark.parametrize("task", ["bit_xor", "bit_memory", "listops"])
def test_evaluations_count_what_the_task_evaluates(task: str) -> None:
    short = {"max_length": 16, "max_depth": 3} if task == "listops" else {}
    settings = settings_of().with_values({"task": {"name": task, **short}, "training": {}})
    built = build_task(settings)
    expected = (built.num_examples("validation"), built.num_examples("test"))
    assert num_evaluated(settings) == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        # The published sizes: the tests' own data are a small part of them.
        ({"name": "mnist"}, (5000, 10_000)),
        ({"name": "cifar10_lra"}, (5000, 10_000)),
        ({"name": "remote_homology"}, (736, 718)),
        ({"name": "remote_homology", "holdout": "family"}, (736, 1272)),
        ({"name": "listops", "origin": "lra"}, (2000, 2000)),
    ],
    ids=str,
)
def test_evaluations_count_published_sizes_unless_told_otherwise(
    task: dict[str, Any], expected: tuple[int, int]
) -> None:
    settings = settings_of().with_values({"task": task, "training": {}})
    assert num_evaluated(settings) == expected
    sized = settings.with_values({"training.validation_size": 7, "training.test_size": 9})
    assert num_evaluated(sized) == (7, 9)
