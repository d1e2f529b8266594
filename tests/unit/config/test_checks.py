"""What must hold between the parts of a sweep."""

from __future__ import annotations

import pytest

from fpt_ray.config import load_sweep

TUNE = "tune:\n  space: {training.dropout: {grid: [0, 0.1]}}\n  "


def test_setting_that_does_not_exist(refuse):
    rest = "compare: {a: {x: {model.tained: [input]}}}\ntune: {space: {training.lr: {grid: [1]}}}\n"
    assert refuse(rest) == [
        "s.yaml:3:19: there is no setting 'model.tained'\n  fix: model.trained",
        "s.yaml:4:16: there is no setting 'training.lr'\n  fix: training.learning_rate",
    ]


def test_setting_that_resembles_none(refuse):
    (problem,) = refuse("compare: {a: {x: {zzz: 1}}}\n")
    assert problem.endswith("such as training.learning_rate")


def test_setting_of_another_task(refuse):
    (problem,) = refuse("compare: {a: {x: {task.patch_size: 2}}}\n")
    assert problem.startswith("s.yaml:3:19: unknown key 'patch_size' in task\n")


@pytest.mark.parametrize("key", ["seed", "final.seeds", "resources.pack"])
def test_setting_that_is_no_part_of_a_trial(refuse, key):
    rest = f"compare: {{a: {{x: {{{key}: 2}}}}}}\ntune: {{space: {{{key}: {{grid: [2]}}}}}}\n"
    assert refuse(rest) == [
        f"s.yaml:3:19: {key} cannot be compared: it is the same for all trials\n"
        "  fix: a key of task, data, model, training",
        f"s.yaml:4:16: {key} cannot be tuned: it is the same for all trials\n"
        "  fix: a key of task, data, model, training",
    ]


@pytest.mark.parametrize("key", ["training.max_steps", "training.eval_every"])
def test_arms_have_equal_budgets(refuse, key):
    (problem,) = refuse(f"compare: {{a: {{x: {{{key}: 50}}}}}}\n")
    assert problem.startswith(f"s.yaml:3:19: {key} cannot be compared: all arms get the same steps")
    assert problem.endswith(f"fix: remove it; set {key} once, in its section")


def test_arms_that_replace_training_have_equal_budgets(refuse):
    rest = "training: {max_steps: 100}\ncompare: {a: {x: {training: {dropout: 0}}}}\n"
    assert refuse(rest) == [
        "s.yaml:4:19: this arm would have max_steps 5000, the others 100: arms get equal budgets\n"
        "  fix: max_steps: 100"
    ]


@pytest.mark.parametrize(
    "key", ["training.max_steps", "training.test_size", "data.dir", "task.name"]
)
def test_what_cannot_be_tuned(refuse, key):
    (problem,) = refuse(f"tune: {{space: {{{key}: {{grid: [1]}}}}}}\n")
    assert problem.startswith(f"s.yaml:3:16: {key} cannot be tuned: configurations are compared on")


def test_sections_are_not_tuned(refuse):
    (problem,) = refuse("tune: {space: {model: {grid: [{}]}}}\n")
    assert problem == "s.yaml:3:16: model is a section: tune one of its keys\n  fix: model.KEY"


def test_key_tuned_and_set_by_a_replaced_section(refuse):
    rest = "compare: {a: {x: {training: {dropout: 0.2}}}}\n" + TUNE
    assert "training.dropout is tuned, and also compared in axis 'a'" in refuse(rest)[0]


def test_key_tuned_beside_a_replaced_section_that_leaves_it_out(write):
    rest = "compare: {a: {x: {training: {batch_size: 2}}}}\n" + TUNE
    assert len(load_sweep(write(rest)).arms) == 1


def test_wrong_value_in_a_grid_is_reported_where_it_stands(refuse):
    rest = "compare: {a: {x: {}, y: {model.init: random}}}\n"
    rest += "tune:\n  space: {training.learning_rate: {grid: [1e-3, '1e-4', -1]}}\n"
    assert [problem.split(": ")[:2] for problem in refuse(rest)] == [
        ["s.yaml:5:49", "learning_rate must be a number, but '1e-4' is text because of its quotes\n"
         "  fix"],
        ["s.yaml:5:57", "learning_rate must be above 0, not -1\n  fix"],
    ]  # fmt: skip


def test_grid_value_that_does_not_fit_one_arm(refuse):
    rest = "compare: {b: {bert: {}, gpt: {model.backbone: gpt2}}}\n"
    rest += "tune: {space: {model.num_layers: {grid: [3, 9]}}}\n"
    assert refuse(rest) == [
        "s.yaml:4:45: num_layers is 9, but minilm-l6 has 6 (arm bert)\n  fix: num_layers: 6"
    ]


def test_grid_values_are_checked_in_combination(write):
    rest = "tune: {space: {task.image_size: {grid: [30]}, task.patch_size: {grid: [3, 5]}}}\n"
    sweep = load_sweep(write(rest), ["task={name: mnist, patch_size: 4}"])
    assert sweep.tune is not None
    assert sweep.tune.num_configurations == 2


def test_reference_with_a_wrong_label(refuse):
    rest = "compare: {init: {pretrained: {}, random: {model.init: random}}}\n"
    assert refuse(rest + "reference: {init: randon}\n") == [
        "s.yaml:4:19: reference names 'randon', which is no label of axis 'init'\n"
        "  fix: random; one of pretrained, random"
    ]


def test_reference_with_a_wrong_axis(refuse):
    rest = "compare: {init: {pretrained: {}, random: {model.init: random}}}\n"
    assert refuse(rest + "reference: {inti: random}\n") == [
        "s.yaml:4:1: reference leaves out axis 'init'\n"
        "  fix: add init: LABEL, one of pretrained, random",
        "s.yaml:4:13: reference names 'inti', which is no axis of compare\n"
        "  fix: init; one of init",
    ]


def test_reference_without_arms(refuse):
    (problem,) = refuse("reference: {init: random}\n")
    assert problem.endswith("fix: remove it: nothing is compared")


def test_published_numbers_of_an_arm_that_does_not_exist(refuse):
    rest = "compare: {a: {one: {}, two: {model.init: random}}}\n"
    assert refuse(rest + "published: [{table: T1, arms: {twoo: FPT}}]\n") == [
        "s.yaml:4:32: there is no arm 'twoo'\n  fix: two; one of one, two"
    ]


def test_two_labels_that_mean_the_same(refuse):
    rest = "compare:\n  t:\n    a: {model.trained: [output, input]}\n    b: {}\n"
    rest += "  i: {p: {}, r: {model.init: random}}\n"
    assert refuse(rest) == [
        "s.yaml:6:5: labels 'a' and 'b' of axis 't' resolve to the same settings\n"
        "  fix: remove one, or change its settings"
    ]


def test_two_arms_that_mean_the_same(refuse):
    rest = "compare:\n  t: {a: {model.init: random}, b: {}}\n"
    rest += "  i: {p: {model.init: random}, r: {training.dropout: 0, model.init: random}}\n"
    problems = refuse(rest)
    assert "labels 'a' and 'b' of axis 't' resolve to the same settings" in problems[0]


def test_asha_with_repeats(refuse):
    assert refuse(TUNE + "seeds: 2\n  scheduler: {name: asha, grace_period: 250}\n") == [
        "s.yaml:5:10: seeds 2 cannot be used with asha: repeats would stop at other rungs\n"
        "  fix: seeds: 1, or scheduler: {name: fifo}"
    ]


def test_rungs_between_evaluations(refuse):
    assert refuse(TUNE + "scheduler: {name: asha, grace_period: 300}\n") == [
        "s.yaml:5:41: grace_period 300 is not a multiple of training.eval_every 250\n"
        "  fix: grace_period: 250"
    ]


def test_rungs_beyond_the_end(refuse):
    assert refuse(TUNE + "scheduler: {name: asha, grace_period: 5250}\n") == [
        "s.yaml:5:41: grace_period 5250 is more than training.max_steps 5000\n"
        "  fix: grace_period: 250"
    ]


def test_asha_without_a_grace_period(refuse):
    assert refuse(TUNE + "scheduler: {name: asha}\n") == [
        "s.yaml:5:3: grace_period is missing\n  fix: add grace_period: 250"
    ]


def test_grid_searcher_with_a_range(refuse):
    rest = "tune:\n  space:\n    training.learning_rate: {log_uniform: [1e-4, 1e-2]}\n"
    assert refuse(rest) == [
        "s.yaml:5:29: the grid searcher cannot search training.learning_rate, which is "
        "log_uniform\n  fix: searcher: {name: optuna, num_trials: 20}, or give the key a grid"
    ]


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_searcher_without_a_number_of_trials(refuse, searcher):
    assert refuse(TUNE + f"searcher: {{name: {searcher}}}\n") == [
        "s.yaml:5:3: num_trials is missing\n  fix: add num_trials: 20"
    ]


def test_more_trials_than_configurations(refuse):
    assert refuse(TUNE + "searcher: {name: random, num_trials: 3}\n") == [
        "s.yaml:5:40: num_trials 3 is more than the 2 different configurations there are\n"
        "  fix: searcher: {name: grid} to try each once, or num_trials: 2 or less"
    ]


def test_name_with_a_separator(refuse):
    assert refuse("name: a/b\n") == [
        "s.yaml:3:7: 'a/b' cannot be the name of a directory\n  fix: name: a_b"
    ]


def test_label_with_a_separator(refuse):
    (problem,) = refuse("compare: {a: {+x/y: {}}}\n")
    assert problem == (
        "s.yaml:3:21: '+x/y' cannot be a label: arms are named by their labels, joined by /\n"
        "  fix: write x_y, for example"
    )


def test_more_layers_than_the_backbone_has(refuse):
    (problem,) = refuse("", "model.num_layers=7")
    assert problem.endswith("num_layers is 7, but minilm-l6 has 6\n  fix: num_layers: 6")


def test_selectors_see_only_the_layers_that_are_kept(refuse):
    (problem,) = refuse("", "model.num_layers=2", "model.trained=['attention[2]']")
    assert problem.endswith('attention has layers 0 to 1: "attention[0]" or "attention[-1]"')


def test_positions_may_be_extended(write):
    sets = ["task={name: mnist, patch_size: 1}", "model.extend_positions=784"]
    assert load_sweep(write(""), sets).task.seq_length == 784


def test_extension_that_is_still_too_short(refuse):
    (problem,) = refuse("", "task={name: mnist, patch_size: 1}", "model.extend_positions=600")
    assert "has 784 tokens, but extend_positions is 600" in problem


def test_extension_that_shortens(refuse):
    (problem,) = refuse("", "model.extend_positions=100")
    assert "extend_positions 100 is less than the 512 that minilm-l6 has" in problem
    assert problem.endswith("fix: extend_positions: null, or more than 512")


@pytest.mark.parametrize(
    ("task", "mode", "what", "fix"),
    [
        ("mnist", "generated", "they are read from files", "auto, or materialized or streaming"),
        ("remote_homology", "generated", "read from files", "auto, or materialized or streaming"),
        ("bit_xor", "materialized", "drawn at random, without end", "auto, or generated or stream"),
    ],
)
def test_a_mode_that_a_task_does_not_have(refuse, task, mode, what, fix):
    (problem,) = refuse(
        f"data: {{mode: {mode}}}\n", f"task={{name: {task}}}", "model.backbone=gpt2"
    )
    assert f"the data of {task} cannot be {mode}: " in problem
    assert what in problem
    assert f"fix: mode: {fix}" in problem


def test_backbone_without_pretrained_weights(refuse):
    (problem,) = refuse("", "model.backbone=tiny-gpt2")
    assert problem == (
        "--set model.backbone=tiny-gpt2: tiny-gpt2 has no pretrained weights\n  fix: init: random"
    )


def test_unknown_backbone(refuse):
    (problem,) = refuse("", "model.backbone=minilm-16")
    assert "there is no backbone 'minilm-16'" in problem
    assert "fix: minilm-l6; or a built-in name" in problem


def test_groups_of_a_backbone_of_unknown_shape_are_checked(refuse):
    sets = ["model.backbone=owner/name", "model.trained=['attention[99]', atention]"]
    (problem,) = refuse("", *sets)
    assert "'atention' is not a parameter group" in problem
