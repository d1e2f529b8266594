"""The published numbers that we ship, and how a sweep file may ask for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fpt_ray.config.published import published_tables
from fpt_ray.config.tasks import TASKS

NUM_NUMBERS = {
    **{"T1": 21, "T2": 28, "T3": 21, "T6": 21, "T7": 3, "T8": 6, "T9": 21, "T10": 4, "T11": 6},
    **{"T12": 6, "T13": 28, "T14": 3, "T15": 28, "T16": 4, "T17": 8, "T18": 28, "T20": 28},
    **{"T21": 28, "rothermel_T1": 16},
}
ARMS = "compare: {init: {one: {model.init: pretrained}, two: {model.init: random}}}\n"


def test_every_table_has_all_its_numbers() -> None:
    counts = {
        name: sum(value is not None for row in table.rows.values() for value in row.values())
        for name, table in published_tables().items()
    }
    assert counts == NUM_NUMBERS


@pytest.mark.parametrize(
    ("table", "row", "task", "value"),
    [
        ("T1", "FPT", "cifar10", 72.1),
        ("T1", "LSTM", "remote_homology", 12.0),
        ("T2", "Bit_memory_pretrained", "remote_homology", 7.8),
        ("T6", "Random", "bit_xor", 20000.0),
        ("T8", "large_Random", "cifar10", 65.7),
        ("T9", "Statistics_only", "cifar10_lra", 33.1),
        ("T11", "layers_2_random", "listops", 16.0),
        ("T12", "layers_1_random", "listops", None),
        ("T13", "both", "cifar10", 32.9),
        ("T14", "all_feedforward_plus_last_attention", "cifar10", 80.0),
        ("T15", "plus_layernorm", "mnist", 96.0),
        ("T16", "random_frozen_layernorm", "cifar10", 55.0),
        ("T17", "T5_encoder", "listops", 15.4),
        ("T21", "plus_positions", "listops", 37.0),
    ],
)
def test_single_numbers_are_as_published(
    table: str, row: str, task: str, value: float | None
) -> None:
    assert published_tables()[table].cell(row, task).value == value


def test_means_come_with_their_standard_error() -> None:
    cell = published_tables()["rothermel_T1"].cell("frozen_pretrained", "cifar10_lra")
    assert (cell.value, cell.sem) == (54.7, 1.4)


def test_totals_of_whole_tables_are_as_published() -> None:
    def total(name: str) -> float:
        values = [v for row in published_tables()[name].rows.values() for v in row.values()]
        return sum(value for value in values if isinstance(value, int | float))

    totals = {name: round(total(name), 1) for name in ("T1", "T2", "T13", "T15", "T18", "T20")}
    assert totals == {
        **{"T1": 1243.1, "T2": 1763.3, "T13": 1718.8},
        **{"T15": 1537.0, "T18": 1376.0, "T20": 1020.0},
    }


def test_certainty_is_told_of_each_cell() -> None:
    tables = published_tables()
    assert tables["T1"].cell("FPT", "mnist").certainty == "checked"
    assert tables["T3"].cell("Transformer", "mnist").certainty == "transcribed"
    assert tables["T3"].cell("LSTM_star", "mnist").certainty == "unverified"
    assert tables["T21"].cell("output", "mnist").certainty == "transcribed"
    assert tables["T21"].cell("output", "bit_memory").certainty == "unverified"


def test_units_and_backbones_are_told_of_each_cell() -> None:
    tables = published_tables()
    assert tables["T6"].cell("FPT", "mnist").unit == "gradient_steps"
    assert tables["T6"].cell("Speedup", "mnist").unit == "ratio"
    assert tables["T1"].cell("FPT", "mnist").backbone == "gpt2"
    assert tables["T1"].cell("FPT", "cifar10").backbone == "gpt2-large"


def test_exceptions_are_for_rows_and_tasks_that_exist() -> None:
    for table in published_tables().values():
        for exception in table.exceptions:
            assert exception.row is None or exception.row in table.rows
            assert exception.task is None or exception.task in TASKS


def test_all_numbers_are_for_our_tasks_and_in_range() -> None:
    for table in published_tables().values():
        for name, row in table.rows.items():
            assert row.keys() <= TASKS.keys()
            cells = [table.cell(name, task) for task in row]
            assert all(0 <= (c.value or 0) <= 100 for c in cells if c.unit == "percent")


def test_a_table_that_does_not_exist_is_refused(refuse) -> None:
    (problem,) = refuse(ARMS + "published: [{table: T51, arms: {one: FPT}}]\n")
    assert problem.startswith(
        "s.yaml:4:21: there is no published table 'T51'\n  fix: T1; one of T1, T2,"
    )


def test_a_row_that_does_not_exist_is_refused(refuse) -> None:
    assert refuse(ARMS + "published: [{table: T15, arms: {one: plus_layer_norm}}]\n") == [
        "s.yaml:4:38: table T15 has no row 'plus_layer_norm'\n"
        "  fix: plus_layernorm; one of output, plus_layernorm, plus_input, plus_positions"
    ]


def test_all_that_is_wrong_with_published_is_told_at_once(refuse) -> None:
    rest = "published: [{table: T16, arms: {onne: x}}, {table: zzz, arms: {one: y}}]\n"
    assert [problem.split("\n")[0] for problem in refuse(ARMS + rest)] == [
        "s.yaml:4:33: there is no arm 'onne'",
        "s.yaml:4:39: table T16 has no row 'x'",
        "s.yaml:4:52: there is no published table 'zzz'",
    ]


def test_a_sweep_without_published_numbers_does_not_read_them(write) -> None:
    code = (
        "import pathlib, sys\n"
        "from fpt_ray.config import load_sweep\n"
        "from fpt_ray.config.published import published_tables\n"
        "load_sweep(pathlib.Path(sys.argv[1]))\n"
        "print(published_tables.cache_info().currsize)"
    )
    sizes = [
        subprocess.run(
            [sys.executable, "-c", code, str(write(ARMS + rest))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for rest in ("", "published: [{table: T15, arms: {one: output}}]\n")
    ]
    assert sizes == ["0", "1"]
