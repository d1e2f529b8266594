"""The engine's loop on packs that only count: who trains with whom, when, and who gets what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fpt_ray.engine.grouping import ALIGN_S
from fpt_ray.engine.members import DROPPED_AFTER_S
from fpt_ray.engine.sizing import Size
from fpt_ray.errors import CheckpointError, RunDirectoryError, TrialError
from tests.unit.engine.fakes import PATIENCE_S, Bench, Gate, results

MakeBench = Callable[..., Bench]


def test_trials_that_ask_together_train_together(bench: Bench) -> None:
    found = results(bench.ask_together("a", "b", "c"))
    assert [result["step"] for result in found.values()] == [5, 5, 5]
    assert bench.world.companies() == [["a", "b", "c"]]
    assert bench.world.evaluated == [["a", "b", "c"]]


def test_a_result_is_delivered_after_its_files_are_written(bench: Bench) -> None:
    request = bench.ask("a")
    asked_while_saving: list[bool] = []
    bench.world.on_save = lambda name: asked_while_saving.append(request.done())
    request.result(PATIENCE_S)
    assert asked_while_saving == [False]
    assert bench.world.saved == {"a": 5}


def test_trials_of_different_keys_take_turns(bench: Bench) -> None:
    first = bench.ask_together("a", "b", key="one") | bench.ask_together("c", key="two")
    results(first)
    gate = Gate()
    bench.world.on_train = gate
    requests = bench.ask_together("a", "b", key="one") | bench.ask_together("c", key="two")
    gate.wait()
    gate.open()
    results(requests)
    assert bench.world.companies() == [["a", "b"], ["c"], ["a", "b"], ["c"]]


def test_a_pack_takes_no_more_than_its_limit_and_who_is_left_waits_for_a_place(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(pack=2)
    requests = bench.ask_together("a", "b", "c")
    results({name: requests[name] for name in ("a", "b")})
    requests |= bench.ask_together("a", "b")
    results({name: requests[name] for name in ("a", "b")})
    assert [names for names, _ in bench.world.turns] == [["a", "b"]] * 2
    assert not requests["c"].done()
    bench.loop.leave("a")
    requests["b"] = bench.ask("b")
    results({name: requests[name] for name in ("b", "c")})
    assert bench.world.companies() == [["a", "b"], ["b", "c"]]


def test_full_packs_take_turns(make_bench: MakeBench) -> None:
    bench = make_bench(pack=2)
    requests = bench.ask_together("a", "b", "c", "d", "e")
    for name in ("a", "b"):
        requests[name].result(PATIENCE_S)
        requests[name] = bench.ask(name)
    results({name: requests[name] for name in "abcd"})
    assert bench.world.companies()[:2] == [["a", "b"], ["c", "d"]]
    assert not requests["e"].done()


def test_with_packs_of_one_the_earliest_trial_goes_first_to_its_end(make_bench: MakeBench) -> None:
    bench = make_bench(pack=1)
    requests = bench.ask_together("a", "b", "c")
    for _ in range(4):
        requests["a"].result(PATIENCE_S)
        requests["a"] = bench.ask("a")
    results({"b": requests["b"]})
    trained = [names for names, _ in bench.world.turns]
    assert trained[:4] == [["a"]] * 4


def test_with_packs_of_one_a_trial_that_does_not_ask_again_lends_its_place(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(pack=1)
    requests = bench.ask_together("a", "b")
    requests["a"].result(PATIENCE_S)
    assert not requests["b"].done()
    bench.clock.now += ALIGN_S
    bench.loop._members.wake()
    assert requests["b"].result(PATIENCE_S)["step"] == 5


def test_a_trial_joins_a_pack_between_two_steps(bench: Bench) -> None:
    gate = Gate(after=2)
    bench.world.on_train = gate
    first = bench.ask("a")
    gate.wait()
    second = bench.ask("b")
    gate.open()
    assert first.result(PATIENCE_S)["step"] == 5
    assert bench.world.turns[:2] == [(["a"], 3), (["a", "b"], 2)]
    bench.loop.leave("a")
    assert second.result(PATIENCE_S)["step"] == 5


def test_a_trial_of_another_key_does_not_join_but_is_opened_at_once(bench: Bench) -> None:
    gate = Gate(after=2)
    bench.world.on_train = gate
    first = bench.ask("a")
    gate.wait()
    second = bench.ask("b", key="other")
    gate.open()
    results({"a": first, "b": second})
    assert bench.world.companies() == [["a"], ["b"]]


def test_a_full_pack_is_not_joined(make_bench: MakeBench) -> None:
    bench = make_bench(pack=2)
    gate = Gate(after=2)
    bench.world.on_train = gate
    requests = bench.ask_together("a", "b")
    gate.wait()
    requests |= {"c": bench.ask("c")}
    gate.open()
    results({name: requests[name] for name in ("a", "b")})
    bench.clock.now += ALIGN_S
    bench.loop._members.wake()
    results(requests)
    assert bench.world.companies() == [["a", "b"], ["c"]]


def test_trials_with_other_intervals_are_evaluated_each_at_its_own(bench: Bench) -> None:
    requests = bench.ask_together("a", every=5) | bench.ask_together("b", every=3)
    assert requests["b"].result(PATIENCE_S)["step"] == 3
    bench.loop.leave("b")
    assert requests["a"].result(PATIENCE_S)["step"] == 5


def test_results_arrive_best_first(bench: Bench) -> None:
    measures = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9}
    bench.world.accuracy = measures.__getitem__
    order: list[str] = []
    gate = Gate()
    bench.world.on_train = gate
    requests = bench.ask_together("a", "b", "c") | bench.ask_together("d", diverges_at=2)
    for name, request in requests.items():
        request.add_done_callback(lambda _, name=name: order.append(name))
    gate.wait()
    gate.open()
    results(requests)
    assert order == ["d", "b", "c", "a"]


def test_a_pack_waits_a_moment_for_all_that_got_results(bench: Bench) -> None:
    results(bench.ask_together("a", "b", "c"))
    late = bench.ask("b")
    later = bench.ask("c")
    bench.loop.leave("a")
    results({"b": late, "c": later})
    assert bench.world.companies() == [["a", "b", "c"], ["b", "c"]]


def test_a_pack_goes_on_without_those_that_stay_away(bench: Bench) -> None:
    results(bench.ask_together("a", "b"))
    request = bench.ask("b")
    bench.clock.now += ALIGN_S
    bench.loop._members.wake()
    assert request.result(PATIENCE_S)["step"] == 10
    assert bench.world.companies() == [["a", "b"], ["b"]]


def test_who_got_no_result_yet_waits_for_nobody_else(bench: Bench) -> None:
    results(bench.ask_together("a"))
    assert bench.ask("b", key="other").result(PATIENCE_S)["step"] == 5


def test_a_trial_that_leaves_is_gone_before_the_next_step(bench: Bench) -> None:
    gate = Gate(after=2)
    bench.world.on_train = gate
    requests = bench.ask_together("a", "b")
    gate.wait()
    bench.loop.leave("a")
    gate.open()
    with pytest.raises(TrialError, match="has left"):
        requests["a"].result(PATIENCE_S)
    assert requests["b"].result(PATIENCE_S)["step"] == 5
    assert bench.world.turns == [(["a", "b"], 3), (["b"], 2)]
    assert bench.world.closed == ["a"]
    assert bench.loop.status()["trials"] == ["b"]


def test_a_trial_whose_owner_is_silent_is_dropped_from_its_pack(bench: Bench) -> None:
    gate = Gate(after=2)
    bench.world.on_train = gate
    requests = bench.ask_together("a", "b")
    gate.wait()
    for _ in range(2):
        bench.pass_time(DROPPED_AFTER_S - 1)
        bench.loop.renew("b")
    gate.open()
    with pytest.raises(TrialError, match="silent for 30 s"):
        requests["a"].result(PATIENCE_S)
    assert requests["b"].result(PATIENCE_S)["step"] == 5
    assert bench.world.companies() == [["a", "b"], ["b"]]


def test_a_trial_that_does_not_ask_again_is_dropped_and_closed(bench: Bench) -> None:
    bench.ask("a").result(PATIENCE_S)
    bench.pass_time(DROPPED_AFTER_S)
    assert bench.loop.status()["trials"] == []
    bench.ask("b").result(PATIENCE_S)
    assert bench.world.closed == ["a"]


def test_a_dropped_trial_that_asks_again_goes_on_from_what_it_saved(bench: Bench) -> None:
    bench.ask("a").result(PATIENCE_S)
    bench.pass_time(DROPPED_AFTER_S)
    assert bench.ask("a").result(PATIENCE_S)["step"] == 10
    assert bench.world.opened == ["a", "a"]


def test_a_process_that_stood_still_does_not_drop_everybody(bench: Bench) -> None:
    bench.ask("a").result(PATIENCE_S)
    bench.clock.now += 3600.0
    bench.loop._members.age()
    assert bench.loop.status()["trials"] == ["a"]


def test_renewing_a_trial_that_is_not_there_does_nothing(bench: Bench) -> None:
    bench.loop.renew("nobody")
    bench.loop.leave("nobody")
    assert bench.loop.status()["trials"] == []


def test_a_new_owner_ends_the_former_ones_request_and_starts_from_what_is_saved(
    bench: Bench,
) -> None:
    gate = Gate(after=2)
    bench.world.on_train = gate
    former = bench.ask("a", session="one")
    gate.wait()
    latter = bench.ask("a", session="two")
    gate.open()
    with pytest.raises(TrialError, match="another process"):
        former.result(PATIENCE_S)
    assert latter.result(PATIENCE_S)["step"] == 5
    assert bench.world.opened == ["a", "a"]
    assert bench.world.closed == ["a"]
    assert bench.world.turns == [(["a"], 3), (["a"], 5)]


def test_a_new_owner_keeps_the_trials_place(make_bench: MakeBench) -> None:
    bench = make_bench(pack=1)
    gate = Gate()
    bench.world.on_train = gate
    former = bench.ask("a", session="one")
    gate.wait()
    other = bench.ask("b")
    latter = bench.ask("a", session="two")
    gate.open()
    with pytest.raises(TrialError):
        former.result(PATIENCE_S)
    latter.result(PATIENCE_S)
    assert not other.done()


def test_asking_twice_gives_the_same_result(bench: Bench) -> None:
    gate = Gate()
    bench.world.on_train = gate
    first, second = bench.ask("a"), bench.ask("a")
    gate.open()
    assert first.result(PATIENCE_S) == second.result(PATIENCE_S)
    assert bench.world.evaluated == [["a"]]


def test_an_evaluation_that_was_saved_but_not_logged_is_delivered_untrained(bench: Bench) -> None:
    bench.world.saved["a"] = 10
    bench.world.logged["a"] = 5
    assert bench.ask("a").result(PATIENCE_S)["step"] == 10
    assert bench.world.turns == []


def test_an_evaluation_that_the_log_holds_is_made_again_but_not_delivered(bench: Bench) -> None:
    bench.world.logged["a"] = 10
    assert bench.ask("a").result(PATIENCE_S)["step"] == 15
    assert bench.world.evaluated == [["a"]] * 3


def test_finalists_at_their_end_are_tested_together(bench: Bench) -> None:
    bench.world.saved |= {"a": 15, "b": 15, "c": 15}
    bench.world.logged |= bench.world.saved
    requests = bench.ask_together("a", "b", stage="final") | bench.ask_together("c")
    found = results(requests)
    assert bench.world.tested == [["a", "b"]]
    assert ["test_accuracy" in result for result in found.values()] == [True, True, False]


def test_a_trial_is_closed_with_its_last_result(bench: Bench) -> None:
    bench.world.saved["a"] = bench.world.logged["a"] = 15
    bench.ask("a").result(PATIENCE_S)
    bench.ask("b").result(PATIENCE_S)
    assert bench.world.closed == ["a"]


def test_a_diverged_trial_leaves_and_the_others_go_on(bench: Bench) -> None:
    requests = bench.ask_together("a", "c") | bench.ask_together("b", diverges_at=3)
    found = results(requests)
    assert (found["b"]["step"], found["b"]["diverged"]) == (3, True)
    assert found["a"]["step"] == found["c"]["step"] == 5
    assert bench.world.companies() == [["a", "c", "b"], ["a", "c"]]
    assert "b" not in bench.world.saved


def test_a_trial_that_cannot_be_opened_fails_alone(bench: Bench) -> None:
    def refuse(name: str) -> None:
        if name == "b":
            raise CheckpointError("damaged")

    bench.world.on_open = refuse
    requests = bench.ask_together("a", "b")
    with pytest.raises(CheckpointError, match="damaged"):
        requests["b"].result(PATIENCE_S)
    assert requests["a"].result(PATIENCE_S)["step"] == 5


def test_a_trial_that_cannot_be_saved_fails_alone(bench: Bench) -> None:
    def refuse(name: str) -> None:
        if name == "b":
            raise RunDirectoryError("no space left")

    bench.world.on_save = refuse
    requests = bench.ask_together("a", "b")
    with pytest.raises(RunDirectoryError, match="no space left"):
        requests["b"].result(PATIENCE_S)
    assert requests["a"].result(PATIENCE_S)["step"] == 5


def test_the_size_is_measured_when_the_first_trial_of_a_key_is_opened(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(pack="auto", measure=lambda pack, trial: Size(4))
    assert bench.loop.status()["size"] is None
    bench.ask("a").result(PATIENCE_S)
    assert bench.loop.status()["size"] == 4
    assert bench.loop.status()["limits"] == [4]


def test_the_status_counts_steps_of_all_trials(bench: Bench) -> None:
    results(bench.ask_together("a", "b", "c"))
    bench.ask("d", key="other").result(PATIENCE_S)
    assert bench.loop.status()["steps"] == 20


def test_a_loop_that_is_closed_answers_who_waits_and_who_comes(bench: Bench) -> None:
    gate = Gate()
    bench.world.on_train = gate
    waiting = bench.ask("a")
    gate.wait()
    gate.open()
    bench.loop.close()
    with pytest.raises(TrialError, match="stopped"):
        waiting.result(PATIENCE_S)
    with pytest.raises(TrialError, match="stopped"):
        bench.ask("b").result(PATIENCE_S)
    assert bench.world.closed == ["a"]


def test_an_error_of_the_loop_itself_reaches_all_who_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("surprise")

    gate = Gate()
    bench.world.on_train = gate
    request = bench.ask("a")
    gate.wait()
    monkeypatch.setattr("fpt_ray.engine.turn.Turn._saved", fail)
    gate.open()
    with pytest.raises(TrialError, match="KeyError: 'surprise'"):
        request.result(PATIENCE_S)
    monkeypatch.undo()
    assert bench.ask("a").result(PATIENCE_S)["step"] == 5
