"""Bad input at the command line: exit code, speed, line and fix, and nothing left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Workplace

GOOD = """\
task: {name: bit_xor}
model: {backbone: tiny-gpt2, init: random, trained: [output]}
training: {learning_rate: 1e-3}
"""
MALFORMED = {
    "unknown key": (GOOD + "finall: {seeds: 2}\n", ":4:1", "final"),
    "wrong type": (GOOD.replace("1e-3", "[1]"), ":3:27", "number"),
    "quoted number": (GOOD.replace("1e-3", '"1e-3"'), ":3:27", "quotes"),
    "empty axis": (GOOD + "compare: {init: {}}\n", ":4:17", "axis"),
    "duplicate key": (GOOD + "seed: 1\nseed: 2\n", ":5:1", "lines 4 and 5"),
    "tabs": (GOOD + "final:\n\tseeds: 2\n", ":5:1", "spaces"),
    "unquoted selector": (GOOD.replace("[output]", "[attention[-1]]"), ":2:54", '"attention[-1]"'),
    "a group that the backbone lacks": (GOOD.replace("[output]", "[other]"), ":2:54", "output"),
    "a selector without match": (
        GOOD.replace("[output]", '["attention[7]"]'),
        ":2:54",
        "layers 0 to 1",
    ),
    "tuned and compared": (
        GOOD
        + "compare: {rate: {a: {training.learning_rate: 1e-2}, b: {training.dropout: 0.0}}}\n"
        + "tune: {space: {training.learning_rate: {grid: [1e-3]}}}\n",
        ":5:16",
        "remove it from tune.space",
    ),
    "too long a sequence": (GOOD.replace("bit_xor", "bit_memory"), ":1:7", "extend_positions: 120"),
    "not YAML": ("task: {name: bit_xor\n", ":1:7", "close them with }"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_at_once(workplace: Workplace, case: str) -> None:
    text, place, hint = MALFORMED[case]
    file = workplace.folder / "bad.yaml"
    file.write_text(text)
    _refused(workplace, file, place, hint)


def test_an_unreadable_file_is_refused_at_once(workplace: Workplace) -> None:
    _refused(workplace, workplace.folder / "nowhere.yaml", "", "there is no such file")


def _refused(workplace: Workplace, file: Path, place: str, hint: str) -> None:
    before = sorted(workplace.folder.rglob("*"))
    started = time.monotonic()
    refused = workplace.run(file, code=2)
    assert time.monotonic() - started < 3
    assert f"{file.name}{place}: " in refused.stderr
    assert "fix:" in refused.stderr
    assert hint in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(workplace.folder.rglob("*")) == before


def test_usage_errors_and_missing_clusters_have_exit_codes(workplace: Workplace) -> None:
    file = workplace.write()
    assert "No such option" in workplace.run(file, "--sett", "a=1", code=2).stderr
    wrong = workplace.run(file, "--set", "training.batch_size=many", code=2)
    assert "--set training.batch_size=many" in wrong.stderr
    missing = workplace.run(file, "--address", "127.0.0.1:1", code=1)
    assert "no Ray cluster answers" in missing.stderr
    assert "Traceback" not in missing.stderr
