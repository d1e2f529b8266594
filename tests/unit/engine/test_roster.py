"""Which engine a trial gets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpt_ray.engine.roster import Roster


def fill(roster: Roster, engines: list[str], groups: str) -> list[str]:
    """Place one trial of each group, named by its number."""
    placed = []
    for number, group in enumerate(groups):
        roster.enter(str(number), group, now=0.0)
        placed.append(roster.place(str(number), engines))
    return placed


def loads(roster: Roster, engines: list[str]) -> list[int]:
    return [roster.load(name) for name in engines]


@given(st.text("abc", max_size=40), st.integers(1, 6))
def test_trials_are_balanced_whatever_their_groups(groups: str, num_engines: int) -> None:
    roster, engines = Roster(), [f"e{number}" for number in range(num_engines)]
    fill(roster, engines, groups)
    counts = loads(roster, engines)
    assert sum(counts) == len(groups)
    assert max(counts) - min(counts) <= 1


def test_trials_that_can_share_a_pack_go_to_one_engine() -> None:
    placed = fill(Roster(), ["x", "y"], "abababab")
    assert {group: set(placed[start::2]) for group, start in (("a", 0), ("b", 1))} == {
        "a": {"x"},
        "b": {"y"},
    }


def test_a_trial_stays_where_it_is() -> None:
    roster = Roster()
    placed = fill(roster, ["x", "y"], "aaaaa")
    again = [roster.place(str(number), ["x", "y"]) for number in range(5)]
    assert again == placed


def test_an_engine_that_comes_late_is_filled_by_trials_that_move() -> None:
    roster, engines = Roster(), ["x", "y", "late"]
    fill(roster, ["x", "y"], "a" * 12)
    moved = [number for number in range(12) if roster.place(str(number), engines) == "late"]
    assert len(moved) == 3
    assert sorted(loads(roster, engines)) == [3, 4, 5]
    settled = loads(roster, engines)
    for number in range(12):
        roster.place(str(number), engines)
    assert loads(roster, engines) == settled


@pytest.mark.parametrize(
    ("num_trials", "num_late", "expected"),
    [(2, 1, [1, 1]), (6, 2, [2, 2, 2]), (6, 3, [1, 1, 2, 2]), (8, 3, [2, 2, 2, 2])],
)
def test_few_trials_are_spread_evenly_over_engines_that_come_late(
    num_trials: int, num_late: int, expected: list[int]
) -> None:
    roster, engines = Roster(), ["x"]
    fill(roster, engines, "a" * num_trials)
    for number in range(num_late):
        engines = [*engines, f"late{number}"]
        for trial in range(num_trials):
            roster.place(str(trial), engines)
    assert sorted(loads(roster, engines)) == expected


def test_trials_of_an_engine_that_is_gone_go_elsewhere() -> None:
    roster = Roster()
    fill(roster, ["x", "y"], "aaaa")
    assert {roster.place(str(number), ["y"]) for number in range(4)} == {"y"}


def test_an_engine_that_cannot_be_reached_is_avoided_where_there_is_another() -> None:
    roster = Roster()
    fill(roster, ["x"], "a")
    assert roster.place("0", ["x", "y"], avoid="x") == "y"
    assert roster.place("0", ["y"], avoid="y") == "y"


def test_deaths_count_until_there_is_progress() -> None:
    roster = Roster()
    fill(roster, ["x"], "a")
    assert [roster.note_death("0"), roster.note_death("0")] == [1, 2]
    roster.note_progress("0")
    assert roster.note_death("0") == 1


def test_trials_that_nobody_owns_are_forgotten() -> None:
    roster = Roster()
    fill(roster, ["x"], "aaa")
    roster.enter("1", "a", now=50.0)
    roster.enter("waits for its first engine", "a", now=0.0)
    roster.forget_silent(held={"0"}, before=40.0)
    assert len(roster) == 3
    assert roster.load("x") == 2


def test_released_trials_make_room() -> None:
    roster = Roster()
    fill(roster, ["x", "y"], "aaaa")
    for number in range(4):
        roster.release(str(number))
    roster.release("unknown")
    assert (len(roster), roster.groups("x")) == (0, set())


@pytest.mark.parametrize("num_engines", [2, 3, 8])
def test_moving_ends(num_engines: int) -> None:
    roster, engines = Roster(), [f"e{number}" for number in range(num_engines)]
    fill(roster, engines[:1], "ab" * 20)
    for _ in range(3):
        where = Counter(roster.place(str(number), engines) for number in range(40))
    assert [roster.place(str(number), engines) for number in range(40)] == [
        roster.place(str(number), engines) for number in range(40)
    ]
    assert max(where.values()) <= 2 * (min(where.values()) + 1)
