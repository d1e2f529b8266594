"""Tuned keys: which one is drawn, on which axis, and whether the best value lies at an edge."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.report import search_space


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        ({"grid": [1e-4, 1e-3, 1e-2]}, 1e-4, "lower"),
        ({"grid": [1e-4, 1e-3, 1e-2]}, 1e-3, None),
        ({"grid": [1e-2, 1e-3, 1e-4]}, 1e-2, "upper"),
        ({"grid": [1e-3]}, 1e-3, None),
        ({"choice": ["adam", "sgd"]}, "adam", None),
        ({"choice": [True, False]}, True, None),
        ({"log_uniform": [1e-5, 1e-1]}, 8e-2, "upper"),
        ({"log_uniform": [1e-5, 1e-1]}, 1e-3, None),
        ({"uniform": [0.0, 1.0]}, 0.04, "lower"),
        ({"int_uniform": [1, 100]}, 50, None),
    ],
)
def test_edges_are_found(domain: dict[str, Any], value: Any, expected: str | None) -> None:
    assert search_space.edge(domain, value) == expected


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ({"grid": [1e-4, 1e-2]}, True),
        ({"grid": [1, 2]}, False),
        ({"grid": ["a", "b"]}, False),
        ({"uniform": [0.0, 1.0]}, False),
        ({"log_uniform": [1.0, 2.0]}, True),
    ],
)
def test_wide_positive_ranges_get_a_log_axis(domain: dict[str, Any], expected: bool) -> None:
    assert search_space.wants_log_axis(domain) is expected


def test_the_learning_rate_is_drawn_before_other_keys() -> None:
    rate = {"training.learning_rate": {"grid": [1]}}
    assert search_space.main_key({"training.dropout": {}, **rate}) == "training.learning_rate"
    assert search_space.main_key({"training.dropout": {}}) == "training.dropout"
    assert search_space.main_key({}) is None


def test_an_unknown_domain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a search domain: \{'normal': "):
        search_space.kind_and_bounds({"normal": [0, 1]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.001, "0.001"),
        (3e-05, "3e-05"),
        (0.0012345678, "0.0012345678"),
        (True, "true"),
        (None, "null"),
        (["input", "output"], "[input, output]"),
        ("adam", "adam"),
    ],
)
def test_values_are_written_as_in_a_sweep_file(value: Any, expected: str) -> None:
    assert search_space.format_value(value) == expected


def test_chosen_values_are_named_by_the_last_part_of_their_key() -> None:
    values = {"training.learning_rate": 0.001, "training.dropout": 0.1}
    assert search_space.format_values(values) == "learning_rate=0.001, dropout=0.1"
