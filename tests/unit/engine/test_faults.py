"""What goes wrong in a pack costs as few trials as possible, and no step of the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fpt_ray.errors import DataError, TrialError
from fpt_ray.training import TrialFault
from tests.unit.engine.fakes import PATIENCE_S, Bench, results

MakeBench = Callable[..., Bench]


def out_of_memory_above(size: int) -> Callable[[list[str]], None]:
    def check(names: list[str]) -> None:
        if len(names) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    return check


def test_out_of_memory_halves_the_pack_and_loses_no_step(make_bench: MakeBench) -> None:
    bench = make_bench(pack=4)
    bench.world.on_train = out_of_memory_above(2)
    found = results(bench.ask_together("a", "b", "c", "d"))
    assert [result["step"] for result in found.values()] == [5, 5, 5, 5]
    assert bench.world.companies() == [["a", "b"], ["c", "d"]]
    assert sum(len(names) * steps for names, steps in bench.world.turns) == 20
    assert bench.loop.status()["limits"] == [2]


def test_out_of_memory_in_the_middle_goes_on_from_the_last_whole_step(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(pack=4)
    calls: list[list[str]] = []

    def fail_at_the_fourth(names: list[str]) -> None:
        calls.append(names)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.world.on_train = fail_at_the_fourth
    results(bench.ask_together("a", "b", "c", "d"))
    assert bench.world.turns[0] == (["a", "b", "c", "d"], 3)
    assert bench.world.turns[1:] == [(["a", "b"], 2), (["c", "d"], 2)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_a_trial_that_does_not_fit_alone_fails_and_says_what_to_do(
    bench: Bench, error: Exception
) -> None:
    def fail(names: list[str]) -> None:
        if "a" in names:
            raise error

    bench.world.on_train = fail
    requests = bench.ask_together("a", "b")
    with pytest.raises(TrialError, match=r"(?s)one trial alone.*smaller training\.batch_size"):
        requests["a"].result(PATIENCE_S)
    assert requests["b"].result(PATIENCE_S)["step"] == 5


def test_evaluation_out_of_memory_is_done_in_parts(bench: Bench) -> None:
    bench.world.on_evaluate = out_of_memory_above(2)
    results(bench.ask_together("a", "b", "c"))
    assert bench.world.evaluated == [["a"], ["b", "c"]]
    assert bench.loop.status()["limits"] == [8]


def test_a_test_out_of_memory_is_done_in_parts(bench: Bench) -> None:
    bench.world.on_test = out_of_memory_above(1)
    names = ("a", "b")
    bench.world.saved |= dict.fromkeys(names, 15)
    bench.world.logged |= bench.world.saved
    found = results(bench.ask_together(*names, stage="final"))
    assert all("test_accuracy" in result for result in found.values())


def test_memory_that_other_trials_hold_is_used_before_one_fails(make_bench: MakeBench) -> None:
    bench = make_bench(pack=2)
    results(bench.ask_together("a", "b"))
    failed: list[list[str]] = []

    def fail_while_others_are_open(names: list[str]) -> None:
        if names == ["c"] and not {"a", "b"} <= set(bench.world.closed):
            failed.append(names)
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.world.on_train = fail_while_others_are_open
    assert bench.ask("c", key="large").result(PATIENCE_S)["step"] == 5
    assert failed == [["c"]]
    again = bench.ask_together("a", "b")
    assert not again["a"].done()
    bench.loop.leave("c")
    assert again["a"].result(PATIENCE_S)["step"] == 10
    bench.loop.leave("a")
    assert again["b"].result(PATIENCE_S)["step"] == 10


def test_before_a_trial_fails_for_memory_a_later_one_gives_up_its_place(bench: Bench) -> None:
    def fail_while_both_are_open(names: list[str]) -> None:
        if bench.world.trials["a"].step == 2 and "b" not in bench.world.closed:
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.world.on_train = fail_while_both_are_open
    requests = bench.ask_together("a", "b")
    assert requests["a"].result(PATIENCE_S)["step"] == 5
    assert bench.world.closed == ["b"]
    bench.loop.leave("a")
    assert requests["b"].result(PATIENCE_S)["step"] == 5
    assert bench.world.companies() == [["a", "b"], ["a"], ["b"]]


def test_a_trial_that_does_not_fit_beside_the_others_waits_for_one_to_leave(bench: Bench) -> None:
    def fail_beside_others(name: str) -> None:
        if name == "b" and bench.world.closed == []:
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.world.on_open = fail_beside_others
    bench.ask("a").result(PATIENCE_S)
    second = bench.ask("b", key="large")
    bench.ask("a").result(PATIENCE_S)
    assert not second.done()
    bench.loop.leave("a")
    assert second.result(PATIENCE_S)["step"] == 5


def test_a_trial_that_does_not_fit_into_an_empty_device_fails(bench: Bench) -> None:
    def fail(name: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    bench.world.on_open = fail
    with pytest.raises(TrialError, match="one trial alone"):
        bench.ask("a").result(PATIENCE_S)


def test_a_member_that_fails_alone_too_gets_its_error_and_the_others_go_on(bench: Bench) -> None:
    def fail(names: list[str]) -> None:
        if "b" in names:
            raise ArithmeticError("bad luck")

    bench.world.on_train = fail
    requests = bench.ask_together("a", "b", "c")
    with pytest.raises(TrialError, match="ArithmeticError: bad luck"):
        requests["b"].result(PATIENCE_S)
    found = results({"a": requests["a"], "c": requests["c"]})
    assert [result["step"] for result in found.values()] == [5, 5]
    assert bench.world.companies() == [["a"], ["c"], ["a", "c"]]
    assert bench.loop.status()["limits"] == [8]


def test_an_error_that_only_a_company_meets_makes_packs_smaller(bench: Bench) -> None:
    def fail(names: list[str]) -> None:
        if len(names) > 2:
            raise ArithmeticError("too many")

    bench.world.on_train = fail
    found = results(bench.ask_together("a", "b", "c", "d"))
    assert [result["step"] for result in found.values()] == [5, 5, 5, 5]
    assert bench.loop.status()["limits"] == [2]


def test_an_evaluation_that_fails_for_one_is_made_for_the_others(bench: Bench) -> None:
    def fail(names: list[str]) -> None:
        if "b" in names:
            raise ArithmeticError("bad luck")

    bench.world.on_evaluate = fail
    requests = bench.ask_together("a", "b", "c", "d")
    with pytest.raises(TrialError, match="bad luck"):
        requests["b"].result(PATIENCE_S)
    del requests["b"]
    assert {result["step"] for result in results(requests).values()} == {5}


def test_a_fault_costs_only_its_trial(bench: Bench) -> None:
    def fail(names: list[str]) -> None:
        if "b" in names:
            trial = bench.world.trials["b"]
            raise TrialFault(trial, DataError("no rows"))  # type: ignore[arg-type]

    bench.world.on_train = fail
    requests = bench.ask_together("a", "b", "c")
    with pytest.raises(DataError, match="no rows"):
        requests["b"].result(PATIENCE_S)
    found = results({"a": requests["a"], "c": requests["c"]})
    assert [result["step"] for result in found.values()] == [5, 5]
    assert bench.world.companies() == [["a", "c"]]
    assert "b" in bench.world.closed


def test_a_lost_gpu_ends_the_engine_and_answers_all(bench: Bench) -> None:
    def fail(names: list[str]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    bench.world.on_train = fail
    requests = bench.ask_together("a", "b")
    for request in requests.values():
        with pytest.raises(TrialError, match="the engine is broken"):
            request.result(PATIENCE_S)
    assert bench.broken.wait(PATIENCE_S)
    with pytest.raises(TrialError, match="the engine is broken"):
        bench.ask("c").result(PATIENCE_S)
