"""--set: the same scalars and checks as the file."""

from __future__ import annotations

import pytest

from fpt_ray.config import Grid, load_sweep

TUNE = "tune:\n  space: {training.learning_rate: {grid: [1e-3]}}\n"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-3", 1e-3),
        ("training.learning_rate=2", 2.0),
        (" training . learning_rate = 0.5 # half", 0.5),
    ],
)
def test_values_are_read_as_in_the_file(write, override, value):
    assert load_sweep(write(""), [override]).training.learning_rate == value


def test_sections_are_made_where_the_file_has_none(write):
    assert load_sweep(write(""), ["final.seeds=2"]).final.seeds == 2


def test_sections_are_replaced_as_a_whole(write):
    sweep = load_sweep(write("training: {dropout: 0}\n"), ["training={batch_size: 2}"])
    assert (sweep.training.batch_size, sweep.training.dropout) == (2, 0.1)


def test_the_last_one_wins(write):
    assert load_sweep(write("seed: 1\n"), ["seed=2", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    "override",
    [
        "tune.space.training.learning_rate={grid: [0.5]}",
        'tune.space."training.learning_rate"={grid: [0.5]}',
        "tune.space.training.learning_rate.grid=[0.5]",
        "tune.space.'training.learning_rate'.grid=[0.5]",
    ],
)
@pytest.mark.parametrize("rest", ["", TUNE])
def test_keys_that_hold_dots_are_found(write, override, rest):
    sweep = load_sweep(write(rest), [override])
    assert sweep.tune is not None
    assert sweep.tune.space == {"training.learning_rate": Grid(grid=(0.5,))}


def test_arms_are_set_by_axis_and_label(write):
    overrides = ["compare.rate.0.1.training.learning_rate=0.1", 'compare.rate."0.1"={}']
    sweep = load_sweep(write("compare: {rate: {0.1: {}}}\n"), overrides[:1])
    assert sweep.compare == {"rate": {"0.1": {"training.learning_rate": 0.1}}}
    assert load_sweep(write(""), overrides[1:]).compare == {"rate": {"0.1": {}}}


def test_unknown_tuned_key(refuse):
    (problem,) = refuse("", "tune.space.training.lr={grid: [1]}")
    assert problem == (
        "--set tune.space.training.lr={grid: [1]}: there is no setting 'training.lr'\n"
        "  fix: training.learning_rate"
    )


def test_unknown_key(refuse):
    (problem,) = refuse("", "training.max_step=100")
    assert problem.startswith(
        "--set training.max_step=100: unknown key 'max_step' in training\n  fix: max_steps; "
    )


def test_number_in_quotes(refuse):
    assert refuse("", "training.learning_rate='1e-3'") == [
        "--set training.learning_rate='1e-3': learning_rate must be a number, but '1e-3' is text "
        "because of its quotes\n  fix: remove the quotes: 1e-3"
    ]


@pytest.mark.parametrize("text", ["", "seed", "=3", ".seed=3", "a b\n"])
def test_text_that_is_no_override(refuse, text):
    assert refuse("", text) == [
        f"--set {text}: this is not KEY=VALUE\n  fix: --set training.max_steps=100"
    ]


@pytest.mark.parametrize("text", [" . =3", '""=3'])
def test_key_without_a_name(refuse, text):
    assert refuse("", text)[0].startswith(f"--set {text}: unknown key '' at the top")


def test_value_that_is_not_yaml(refuse):
    (problem,) = refuse("", "seed=[1")
    assert problem.startswith("--set seed=[1: not valid YAML: ")


def test_unquoted_selector(refuse):
    (problem,) = refuse("", "model.trained=[attention[-1]]")
    assert problem.endswith('fix: quote selectors: "attention[-1]"')


def test_repeated_key(refuse):
    assert refuse("", "final={seeds: 1, seeds: 2}") == [
        "--set final={seeds: 1, seeds: 2}: key 'seeds' is given twice\n  fix: remove one of them"
    ]


def test_key_below_a_value(refuse):
    assert refuse("", "model.trained.first=input") == [
        "--set model.trained.first=input: model.trained is a value and has no keys below it\n"
        "  fix: --set model.trained=input"
    ]
