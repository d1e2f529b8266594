"""An engine in this process, on tiny backbones: packs give what each trial gives alone."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.data.deliver import NOTHING
from fpt_ray.engine.loop import EngineLoop
from fpt_ray.engine.workshop import Workshop, start
from fpt_ray.errors import DataError, TrialError
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks.sequence_task import SequenceTask
from fpt_ray.training import PackedTrial, Shelf, build_trainer, train
from fpt_ray.training.pack.compute import Computation
from tests.integration.engine_world import (
    MEASURES,
    METRIC,
    PATIENCE_S,
    alone,
    commit,
    follow,
    measures,
    order,
)

RATES = (1e-4, 1e-3, 3e-3, 1e-2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPT_RAY_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "demo")


@pytest.fixture
def start_loop(run: RunDirectory) -> Iterator[Callable[..., EngineLoop]]:
    started: list[EngineLoop] = []

    def begin(pack: Any = 8) -> EngineLoop:
        workshop = Workshop(run, NOTHING, torch.device("cpu"), METRIC, Shelf())
        started.append(start(workshop, pack, 1))
        return started[-1]

    yield begin
    for loop in started:
        loop.close()


@pytest.fixture
def loop(start_loop: Callable[..., EngineLoop]) -> EngineLoop:
    return start_loop()


def assert_as_alone(found: dict[str, list[dict[str, Any]]], orders: list[dict[str, Any]]) -> None:
    for each in orders:
        expected = alone(each)
        ours = measures(found[each["trial_id"]])
        assert [e["step"] for e in ours] == [e["step"] for e in expected]
        for one, other in zip(ours, expected, strict=True):
            for name in MEASURES:
                assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), (each, name)


def at_rates(**model: Any) -> list[dict[str, Any]]:
    return [order(f"r{rate}", model=model, learning_rate=rate) for rate in RATES]


@pytest.mark.parametrize(
    "model",
    [
        {"trained": ["all"]},
        {"trained": ["input", "output", "layer_norm", "positions"]},
        {"backbone": "tiny-gpt2", "trained": ["input", "output", "layer_norm"]},
    ],
    ids=["all", "fpt", "gpt2"],
)
def test_trials_of_a_pack_evaluate_as_each_does_alone(
    run: RunDirectory, loop: EngineLoop, model: dict[str, Any]
) -> None:
    orders = at_rates(**model)
    found = follow(loop, run, orders)
    assert_as_alone(found, orders)
    assert max(result["pack"] for result in found["r0.01"]) == len(RATES)


def test_trials_of_other_groups_lengths_and_intervals_share_packs(
    run: RunDirectory, loop: EngineLoop
) -> None:
    orders = [
        order("a", model={"trained": ["output"]}),
        order("b", model={"trained": ["input", "output", "layer_norm"]}, eval_every=7),
        order("c", model={"trained": ["input", "output", "positions"]}, max_steps=13),
        order("d", model={"trained": ["output"]}, grad_clip_norm=None, learning_rate=1e-2),
    ]
    found = follow(loop, run, orders)
    assert_as_alone(found, orders)


def test_trials_of_other_seeds_share_packs_where_everything_is_trained(
    run: RunDirectory, loop: EngineLoop
) -> None:
    orders = [order(f"s{seed}", seed=seed) for seed in (1, 2, 3)]
    found = follow(loop, run, orders)
    assert_as_alone(found, orders)
    assert max(result["pack"] for result in found["s3"]) == 3


def test_trials_of_random_backbones_of_their_own_take_turns(
    run: RunDirectory, loop: EngineLoop
) -> None:
    orders = [order(f"s{seed}", model={"trained": ["output"]}, seed=seed) for seed in (1, 2, 3)]
    found = follow(loop, run, orders)
    assert_as_alone(found, orders)
    assert {result["pack"] for results in found.values() for result in results} == {1}


def test_it_does_not_matter_who_joins_and_leaves_when(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (order(name, learning_rate=rate) for name, rate in zip("abc", RATES, strict=False))
    late = {3: lambda: requests.update(b=loop.submit(b)), 7: lambda: loop.leave("c")}
    calls = at_each_backward(monkeypatch, late)
    requests = {"a": loop.submit(a), "c": loop.submit(c)}
    found: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for name, described in (("a", a), ("b", b)):
        for _ in range(4):
            result = requests[name].result(PATIENCE_S)
            found[name].append(result)
            if len(found[name]) < 4:
                requests[name] = loop.submit(described)
    assert_as_alone(found, [a, b])
    assert set(calls) > {1}


def at_each_backward(
    monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], object]]
) -> list[int]:
    """Let something happen at a backward pass, counted from 1; note the sizes of packs."""
    sizes: list[int] = []
    backward = Computation.backward

    def watched(self: Computation, rows: Any, batch: Any, held: Any) -> Any:
        sizes.append(batch.whole.tokens.shape[0])
        if event := events.get(len(sizes)):
            event()
        return backward(self, rows, batch, held)

    monkeypatch.setattr(Computation, "backward", watched)
    return sizes


def fail(error: Exception) -> Callable[[], object]:
    def event() -> object:
        raise error

    return event


def test_out_of_memory_in_the_middle_of_a_pack_changes_no_number(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = at_rates()
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    sizes = at_each_backward(monkeypatch, {8: fail(error)})
    found = follow(loop, run, orders)
    monkeypatch.undo()
    assert_as_alone(found, orders)
    assert sizes[7] == 4
    assert max(sizes[8:]) == 2
    assert loop.status()["limits"] == [2]
    assert loop.status()["steps"] == 20 * len(orders)


def test_a_failure_in_the_middle_of_a_pack_changes_no_number(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = at_rates()
    at_each_backward(monkeypatch, {8: fail(RuntimeError("a kernel was not found"))})
    found = follow(loop, run, orders)
    monkeypatch.undo()
    assert_as_alone(found, orders)
    assert loop.status()["steps"] == 20 * len(orders)


def test_a_diverging_trial_in_the_middle_of_a_pack_changes_no_number_of_the_others(
    run: RunDirectory, loop: EngineLoop
) -> None:
    orders = at_rates()
    diverging = order("diverging", learning_rate=1e6)
    found = follow(loop, run, [orders[0], diverging, *orders[1:]])
    assert found["diverging"][-1]["diverged"]
    assert found["diverging"][-1]["step"] == alone(diverging)[-1]["step"]
    assert_as_alone(found, orders)


def test_a_trial_without_data_fails_and_changes_no_number_of_the_others(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = at_rates()
    batches = SequenceTask.batches

    def damaged(self: Any, split: str, seed: int, *rest: Any) -> Any:
        if split == "train" and seed == 8:
            raise DataError("a shard is damaged")
        return batches(self, split, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SequenceTask, "batches", damaged)
    lost = loop.submit(order("lost", seed=8))
    found = follow(loop, run, orders)
    with pytest.raises(DataError, match="a shard is damaged"):
        lost.result(PATIENCE_S)
    assert_as_alone(found, orders)


def test_a_state_that_a_pack_wrote_goes_on_alone(run: RunDirectory, loop: EngineLoop) -> None:
    orders = at_rates()
    follow(loop, run, orders, num_results=2)
    for each in orders:
        settings = TrialSettings.model_validate(each["settings"])
        trainer = build_trainer(settings, each["seed"])
        trainer.load_state(run.read_bytes(run.state_of(each["trial_id"])) or b"")
        rest = [(e.step, e.train_loss, e.validation_loss) for e in train(trainer, 5)]
        expected = [(e["step"], e["train_loss"], e["validation_loss"]) for e in alone(each)[2:]]
        assert rest == [pytest.approx(values, rel=1e-5) for values in expected]


def test_a_state_that_was_written_alone_goes_on_in_a_pack(
    run: RunDirectory, loop: EngineLoop
) -> None:
    orders = at_rates()
    former: dict[str, list[dict[str, Any]]] = {}
    for each in orders:
        trial_id = each["trial_id"]
        trainer = build_trainer(TrialSettings.model_validate(each["settings"]), each["seed"])
        trainer.advance(5)
        trainer.advance(5)
        run.write_bytes(run.state_of(trial_id), trainer.state())
        run.write_bytes(run.best_of(trial_id), trainer.best())
        former[trial_id] = alone(each)[:2]
        for result in former[trial_id]:
            commit(run, trial_id, result | {"train_s": 0.0, "wall_s": 0.0})
    found = follow(loop, run, orders)
    assert_as_alone({name: former[name] + found[name] for name in found}, orders)


def test_trials_go_on_where_another_engine_ended(
    run: RunDirectory, start_loop: Callable[..., EngineLoop]
) -> None:
    orders = at_rates()
    first = start_loop()
    before = follow(first, run, orders, num_results=1)
    pending = [first.submit(each) for each in orders]
    first.close()
    for request in pending:
        assert isinstance(request.exception(PATIENCE_S), TrialError | None)
    found = follow(start_loop(), run, [each | {"session": "new"} for each in orders])
    assert_as_alone({name: before[name] + found[name] for name in found}, orders)


def test_packs_of_one_and_packs_of_a_measured_size_give_equal_numbers(
    run: RunDirectory, start_loop: Callable[..., EngineLoop]
) -> None:
    orders = at_rates(trained=["output", "layer_norm"])
    measured = start_loop("auto")
    found = follow(measured, run, orders)
    assert_as_alone(found, orders)
    assert (measured.status()["size"] or 0) >= 1
    single = start_loop(1)
    again = follow(
        single, run, [order(f"1-{e['trial_id']}") | {"settings": e["settings"]} for e in orders]
    )
    assert {result["pack"] for results in again.values() for result in results} == {1}
    for each in orders:
        ours, theirs = found[each["trial_id"]], again[f"1-{each['trial_id']}"]
        for one, other in zip(measures(ours), measures(theirs), strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_what_a_trial_holds_is_freed_when_it_leaves(run: RunDirectory, loop: EngineLoop) -> None:
    for each in at_rates():
        loop.submit(each).result(PATIENCE_S)
    for each in at_rates():
        loop.leave(each["trial_id"])
    loop.submit(order("last", max_steps=5)).result(PATIENCE_S)
    loop.close()
    gc.collect()
    assert [o for o in gc.get_objects() if type(o) is PackedTrial] == []


def test_no_thread_of_a_loop_outlives_it(start_loop: Callable[..., EngineLoop]) -> None:
    loop = start_loop()
    loop.submit(order()).result(PATIENCE_S)
    loop.close()
    loop.close()
    assert not loop._thread.is_alive()
