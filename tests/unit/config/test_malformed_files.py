"""Each kind of malformed file is answered with its line and what to write instead."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fpt_ray.config import load_sweep
from fpt_ray.errors import SweepFileError


def test_unknown_key_with_a_near_miss(refuse):
    (problem,) = refuse("training:\n  max_step: 100\n")
    assert problem.startswith("s.yaml:4:3: unknown key 'max_step' in training\n  fix: max_steps; ")


def test_unknown_key_at_the_top(refuse):
    (problem,) = refuse("trainig: {max_steps: 100}\n")
    assert problem.startswith("s.yaml:3:1: unknown key 'trainig' at the top\n  fix: training; ")


def test_problems_behind_a_misspelled_key_are_found_in_the_same_pass(refuse):
    problems = refuse("published: [{tabel: 3, arms: {defualt: row}}]\n")
    assert [problem.split("\n")[0] for problem in problems] == [
        "s.yaml:3:14: unknown key 'tabel' in published.0",
        "s.yaml:3:21: table must be text, not 3",
        "s.yaml:3:21: there is no published table '3'",
        "s.yaml:3:31: there is no arm 'defualt'",
    ]


def test_what_is_missing(refuse):
    assert refuse("published:\n  - {table: T}\n", "task={}", "model={}") == [
        "s.yaml:4:5: arms is missing\n  fix: add arms: {ARM: ROW}",
        "--set task={}: task has no name\n  fix: task: {name: ...}",
        "--set model={}: backbone is missing\n  fix: add backbone: minilm-l6",
    ]


def test_key_that_belongs_in_a_section(refuse):
    (problem,) = refuse("trained: [input]\n")
    assert problem.startswith("s.yaml:3:1: unknown key 'trained' at the top\n  fix: model.trained;")


def test_key_given_by_its_initials(refuse):
    (problem,) = refuse("training: {lr: 0.1}\n")
    assert "unknown key 'lr' in training\n  fix: learning_rate;" in problem


def test_unknown_key_that_resembles_none(refuse):
    (problem,) = refuse("final: {zzz: 1}\n")
    assert problem == "s.yaml:3:9: unknown key 'zzz' in final\n  fix: one of seeds"


def test_wrong_type(refuse):
    assert refuse("training: {batch_size: many}\n") == [
        "s.yaml:3:24: batch_size must be a whole number, not 'many'\n"
        "  fix: a whole number at least 1, such as 16"
    ]


def test_truth_value_for_a_number(refuse):
    (problem,) = refuse("training: {max_steps: true}\n")
    assert problem.startswith("s.yaml:3:23: max_steps must be a whole number, not true")


def test_whole_number_with_an_exponent(refuse):
    assert refuse("training: {max_steps: 1e3}\n") == [
        "s.yaml:3:23: max_steps must be a whole number, not 1000.0\n"
        "  fix: write it without point and exponent: 1000"
    ]


def test_number_for_text(refuse):
    (problem,) = refuse("storage: 7\n")
    assert problem == 's.yaml:3:10: storage must be text, not 7\n  fix: put it in quotes: "7"'


def test_text_for_a_list(refuse):
    assert refuse("loggers: tensorboard\n") == [
        "s.yaml:3:10: loggers must be a list, not 'tensorboard'\n  fix: loggers: [\"tensorboard\"]"
    ]


def test_section_left_empty(refuse):
    assert refuse("training:\nseed: 1\n") == [
        "s.yaml:3:1: training is empty\n  fix: remove training, or write settings under it"
    ]


def test_number_for_a_section(refuse):
    assert refuse("final: 5\n") == [
        "s.yaml:3:8: final must be settings (key: value), not 5\n  fix: final: {key: value}"
    ]


def test_number_in_quotes(refuse):
    assert refuse("training:\n  learning_rate: '1e-3'\n") == [
        "s.yaml:4:18: learning_rate must be a number, but '1e-3' is text because of its quotes\n"
        "  fix: remove the quotes: 1e-3"
    ]


def test_number_out_of_range(refuse):
    assert refuse("training: {dropout: 1.5}\n") == [
        "s.yaml:3:21: dropout must be in [0, 1), not 1.5\n  fix: a number in [0, 1)"
    ]


def test_item_out_of_range(refuse):
    problems = refuse("", "model.input_mlp=[0]")
    assert problems == [
        "--set model.input_mlp=[0]: input_mlp must be at least 1, not 0\n  fix: a number at least 1"
    ]


@pytest.mark.parametrize("number", [".inf", ".nan", "1e999"])
def test_number_that_is_not_finite(refuse, number):
    (problem,) = refuse(f"training: {{learning_rate: {number}}}\n")
    assert problem.startswith("s.yaml:3:27: learning_rate must be a finite number, not ")
    assert problem.endswith("fix: a number above 0")


def test_choice_with_a_near_miss(refuse):
    (problem,) = refuse("training: {precision: bf61}\n")
    assert problem == "s.yaml:3:23: precision cannot be 'bf61'\n  fix: bf16, or fp32"


def test_pack_that_is_no_number(refuse):
    assert refuse("resources: {pack: 0}\n") == [
        "s.yaml:3:19: pack must be auto or a whole number from 1 on, not 0\n  fix: pack: auto"
    ]


def test_empty_axis(refuse):
    (problem,) = refuse("compare:\n  init: {}\n")
    assert problem.startswith("s.yaml:4:9: axis 'init' has no settings to compare\n  fix: init: {")


def test_empty_grid(refuse):
    assert refuse("tune:\n  space:\n    training.learning_rate: {grid: []}\n") == [
        "s.yaml:5:36: grid of training.learning_rate is empty\n"
        "  fix: list at least one value, such as grid: [1e-4, 1e-3]"
    ]


def test_empty_trained(refuse):
    (problem,) = refuse("compare: {t: {none: {model.trained: []}, all: {model.trained: [all]}}}\n")
    assert "s.yaml:3:37: trained is empty (arm none)\n  fix: trained: [input, " in problem


def test_duplicate_key(refuse):
    assert refuse("seed: 1\nstorage: a\nseed: 2\n") == [
        "s.yaml:5:1: key 'seed' is given twice (lines 3 and 5)\n  fix: remove one of them"
    ]


def test_tabs(refuse):
    assert refuse("training:\n\tmax_steps: 100\n") == [
        "s.yaml:4:1: a tab cannot indent a line\n  fix: replace the tab by spaces"
    ]


@pytest.mark.parametrize("selector", ["attention[-1]", "feed_forward[0:6]", "all - attention[1:]"])
def test_unquoted_selector(refuse, selector):
    assert refuse(f"compare: {{t: {{a: {{model.trained: [input, {selector}]}}}}}}\n") == [
        f"s.yaml:3:42: a selector with brackets needs quotes in a list: {selector}\n"
        f'  fix: quote selectors: "{selector}"'
    ]


def test_group_that_does_not_exist(refuse):
    (problem,) = refuse("", "model.trained=[atention]")
    assert problem.startswith("--set model.trained=[atention]: 'atention' is not a parameter group")
    assert "fix: attention; groups are input, output, positions" in problem


def test_group_that_the_backbone_lacks(refuse):
    rest = "compare:\n  t:\n    a: {model.backbone: gpt2, model.trained: [output, other]}\n"
    assert refuse(rest) == [
        "s.yaml:5:55: selector 'other' matches nothing\n  fix: this model's groups are "
        "input, output, positions, layer_norm, attention, feed_forward"
    ]


def test_selector_that_matches_nothing(refuse):
    rest = "compare:\n  t:\n    a: {}\n    b: {model.trained: ['attention[12]']}\n"
    assert refuse(rest) == [
        "s.yaml:6:25: selector 'attention[12]' matches nothing (arm b)\n"
        '  fix: attention has layers 0 to 5: "attention[0]" or "attention[-1]"'
    ]


def test_key_both_tuned_and_compared(refuse):
    rest = (
        "compare: {rate: {slow: {training.learning_rate: 1e-4}}}\n"
        "tune:\n  space: {training.learning_rate: {grid: [1e-3]}}\n"
    )
    assert refuse(rest) == [
        "s.yaml:5:11: training.learning_rate is tuned, and also compared in axis 'rate' "
        "(label 'slow')\n  fix: remove it from tune.space, or from compare.rate"
    ]


def test_sequence_too_long_for_the_positions(refuse):
    rest = "compare:\n  task:\n    bits: {task: {name: bit_memory}}\n"
    rest += "    pixels: {task: {name: mnist, patch_size: 1}}\n"
    assert refuse(rest) == [
        "s.yaml:6:46: a sequence of mnist has 784 tokens, but minilm-l6 has 512 positions "
        "(arm pixels)\n"
        "  fix: a patch_size that makes fewer tokens, or model.extend_positions: 784"
    ]


def test_patches_that_do_not_tile_the_image(refuse):
    assert refuse("", "task={name: mnist, patch_size: 5}") == [
        "--set task={name: mnist, patch_size: 5}: patch_size 5 does not divide image_size 28\n"
        "  fix: patch_size: 4"
    ]


def test_missing_file_with_a_near_miss(tmp_path: Path):
    (tmp_path / "quickstart.yaml").touch()
    with pytest.raises(SweepFileError) as caught:
        load_sweep(tmp_path / "quickstart.yml")
    assert str(caught.value) == (
        f"{tmp_path}/quickstart.yml: there is no such file\n  fix: {tmp_path}/quickstart.yaml"
    )


def test_missing_directory(tmp_path: Path):
    with pytest.raises(SweepFileError, match="fix: give the path of a YAML file"):
        load_sweep(tmp_path / "no" / "s.yaml")


def test_directory(tmp_path: Path):
    with pytest.raises(SweepFileError, match="this is a directory, not a sweep file"):
        load_sweep(tmp_path)


@pytest.mark.parametrize(
    ("code", "text"),
    [(errno.EACCES, "no permission to read the file"), (errno.EIO, "the file cannot be read")],
)
def test_file_that_cannot_be_read(write, monkeypatch, code, text):
    def fail(path: Path) -> bytes:
        raise OSError(code, "Input/output error")

    path = write("")
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(SweepFileError, match=text):
        load_sweep(path)


def test_file_that_is_not_utf8(tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_bytes("task: {}\nname: é".encode("latin-1"))
    with pytest.raises(SweepFileError) as caught:
        load_sweep(path)
    assert str(caught.value) == (f"{path}:2:7: the file is not UTF-8 text\n  fix: save it as UTF-8")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("- a\n", "1:1: the file is no mapping of keys"),
        ("hello\n", "1:1: the file is no mapping of keys"),
    ],
)
def test_no_mapping_at_the_top(tmp_path: Path, text, what):
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SweepFileError) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(f"{path}:{what}\n  fix: start with the lines  task:")


@pytest.mark.parametrize(
    ("text", "where", "fix"),
    [
        ("seed: [1\n", "3:7", "close the list with ]"),
        ("final: {seeds: 1\n", "3:8", "close them with }"),
        ("storage: 'runs\n", "3:10", "close the quotes"),
        ("training:\n  max_steps: 1\n   seed: 2\n", "5:8", "check indentation and colons"),
        ("  training: 1\n", "3:3", "equally indented"),
        ("storage: @a\n", "3:10", "put the text in quotes"),
        ("storage: *a\n", "3:10", "put text that starts with * in quotes"),
        ("---\na: 1\n", "3:1", "one file is one sweep"),
        ("storage: \x01\n", "3:10", "remove the character"),
    ],
)
def test_text_that_is_not_yaml(refuse, text, where, fix):
    (problem,) = refuse(text)
    assert problem.startswith(f"s.yaml:{where}: not valid YAML: ")
    assert fix in problem


def test_keys_and_values_that_a_sweep_has_no_use_for(refuse):
    problems = refuse("<<: {seed: 1}\nseed: !odd 1\nfinal: &a {seeds: *a}\n")
    assert [problem.split("\n")[0] for problem in problems] == [
        "s.yaml:3:1: a key must be one word or text",
        "s.yaml:4:7: '1' cannot be read as !odd",
        "s.yaml:5:8: an alias stands inside its own anchor",
    ]


def test_deep_nesting(refuse):
    (problem,) = refuse("seed: " + "[" * 1000)
    assert "the file is nested too deeply" in problem


def test_all_problems_are_reported_at_once_and_in_order(refuse):
    rest = "seed: x\ntraning: {max_steps: '6000'}\nfinal: {seeds: 0}\n"
    rest += "tune:\n  space: {training.dropuot: {grid: [0]}}\n"
    rest += "  scheduler: {name: asha, grace_period: 6001}\n"
    problems = refuse(rest, "model.trained=['attention[9]']", "nonsense")
    assert [problem.split(": ")[0] for problem in problems] == [
        "s.yaml:3:7",
        "s.yaml:4:1",
        "s.yaml:4:22",
        "s.yaml:5:16",
        "s.yaml:7:11",
        "s.yaml:8:41",
        "--set nonsense",
        "--set model.trained=['attention[9]']",
    ]


def test_what_rests_on_a_guess_is_not_reported(refuse):
    problems = refuse(
        "training: {max_steps: many}\n"
        "tune:\n  space: {training.dropout: {grid: [0]}}\n"
        "  scheduler: {name: asha, grace_period: 9000}\n"
    )
    assert len(problems) == 1
    assert "max_steps must be a whole number" in problems[0]
