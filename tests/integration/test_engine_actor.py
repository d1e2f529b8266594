"""Engines as actors of a real local Ray: processes that die, on both sides, and streamed data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from fpt_ray.config import TrialSettings
from fpt_ray.data.deliver import NOTHING, deliver
from fpt_ray.data.stream import StreamedTask
from fpt_ray.engine.actor import Engine
from fpt_ray.engine.workshop import Workshop, spare_cpus, start
from fpt_ray.errors import CheckpointError, TrialError
from fpt_ray.storage import RunDirectory
from fpt_ray.training import Shelf
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

RATES = (1e-4, 1e-3, 1e-2)
NUM_CPUS = 3
HASTE_S = 1.5


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPT_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        ray.init(
            num_cpus=NUM_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return RunDirectory(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def start_actor(run: RunDirectory) -> Iterator[Callable[..., Any]]:
    """Start engines as the pool does; end them with the module."""
    started: list[Any] = []

    def begin(kind: type = Engine, device: str = "cpu", pack: Any = 8) -> Any:
        actor: Any = ray.remote(kind)
        engine = actor.options(num_cpus=0.5).remote(run.uri, NOTHING, device, METRIC, pack, 1)
        started.append(engine)
        return engine

    yield begin
    for engine in started:
        ray.kill(engine)


@pytest.fixture(scope="module")
def engine(start_actor: Callable[..., Any]) -> Any:
    return start_actor()


@pytest.fixture(scope="module")
def hasty(start_actor: Callable[..., Any]) -> Any:
    return start_actor(HastyEngine)


class HastyEngine(Engine):
    """An engine that drops silent trials soon."""

    def __init__(self, *arguments: Any) -> None:
        from fpt_ray.engine import members

        members.DROPPED_AFTER_S = HASTE_S
        members.LOOK_EVERY_S = 0.1
        super().__init__(*arguments)


@ray.remote(num_cpus=0)
class Owner:
    """A process that owns a trial and asks for its results."""

    def pid(self) -> int:
        return os.getpid()

    def ask(self, engine: Any, described: dict[str, Any]) -> Any:
        return ray.get(engine.advance.remote(described))


def get(reference: Any) -> Any:
    return ray.get(reference, timeout=PATIENCE_S)


def at_rates(name: str, **training: Any) -> list[dict[str, Any]]:
    return [order(f"{name}{rate}", learning_rate=rate, **training) for rate in RATES]


def endless(described: dict[str, Any]) -> dict[str, Any]:
    """Order the same trial with an evaluation that is never reached."""
    settings = described["settings"]
    training = settings["training"] | {"eval_every": 10**6, "max_steps": 10**6}
    session = order()["session"]
    return described | {"settings": settings | {"training": training}, "session": session}


def advance_all(engine: Any, run: RunDirectory, orders: list[dict[str, Any]]) -> Any:
    """Have all trials advanced by one evaluation, and log them."""
    results = get([engine.advance.remote(each) for each in orders])
    for each, result in zip(orders, results, strict=True):
        commit(run, each["trial_id"], result)
    return results


def assert_as_alone(found: Sequence[Any], orders: list[dict[str, Any]]) -> None:
    """Compare each trial's results with those that it has alone."""
    for each, ours in zip(orders, found, strict=True):
        for one, other in zip(measures(list(ours)), alone(each), strict=True):
            for name in ("step", *MEASURES):
                assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), name


def test_an_actor_gives_what_each_trial_gives_alone(run: RunDirectory, engine: Any) -> None:
    orders = at_rates("alone")
    before = get(engine.status.remote())["steps"]
    found = [advance_all(engine, run, orders) for _ in range(4)]
    assert_as_alone(list(zip(*found, strict=True)), orders)
    status = get(engine.status.remote())
    assert (status["trials"], status["size"], status["steps"]) == ([], 8, before + 60)
    assert (status["device"], status["warning"]) == ("cpu", None)
    assert status["pid"] != os.getpid()


def test_an_engine_that_is_killed_in_the_middle_of_a_pack_costs_no_number(
    run: RunDirectory, engine: Any, start_actor: Callable[..., Any]
) -> None:
    first, orders = start_actor(), at_rates("killed")
    found = [advance_all(first, run, orders)]
    lost = [first.advance.remote(endless(each)) for each in orders]
    # With this one's result they have surely made steps.
    assert get(first.advance.remote(order("short", max_steps=5)))["pack"] == 1 + len(orders)
    os.kill(get(first.status.remote())["pid"], signal.SIGKILL)
    for reference in lost:
        with pytest.raises(RayActorError):
            get(reference)
    anew = [each | {"session": "anew"} for each in orders]
    found += [advance_all(engine, run, anew) for _ in range(3)]
    assert_as_alone(list(zip(*found, strict=True)), orders)


def test_the_error_of_a_trial_arrives_as_it_is(run: RunDirectory, engine: Any) -> None:
    run.write_bytes(run.state_of("damaged"), b"damaged")
    with pytest.raises(RayTaskError) as failure:
        get(engine.advance.remote(order("damaged")))
    assert isinstance(failure.value.cause, CheckpointError)
    assert get(engine.advance.remote(order("sound")))["step"] == 5


def test_a_trial_whose_owner_was_killed_is_dropped_and_the_others_go_on(hasty: Any) -> None:
    owner: Any = Owner.remote()
    pid = get(owner.pid.remote())
    asked = owner.ask.remote(hasty, endless(order("orphan")))
    while "orphan" not in get(hasty.status.remote())["trials"]:
        get(hasty.renew.remote("orphan"))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RayActorError):
        get(asked)
    assert get(hasty.advance.remote(order("neighbour", max_steps=5)))["step"] == 5
    while "orphan" in get(hasty.status.remote())["trials"]:
        get(hasty.renew.remote("nobody"))
    assert get(hasty.advance.remote(order("next", max_steps=5)))["pack"] == 1


def test_a_trial_that_is_renewed_is_kept(hasty: Any) -> None:
    request = hasty.advance.remote(endless(order("renewed")))
    until = time.monotonic() + 2 * HASTE_S
    while time.monotonic() < until:
        get(hasty.renew.remote("renewed"))
    assert get(hasty.status.remote())["trials"] == ["renewed"]
    get(hasty.leave.remote("renewed"))
    with pytest.raises(TrialError, match="has left"):
        get(request)


def test_an_engine_without_the_gpu_that_it_needs_says_so_and_lives(
    start_actor: Callable[..., Any],
) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    engine = start_actor(device="cuda")
    with pytest.raises(TrialError, match="torch sees no GPU where Ray says that there is one"):
        get(engine.advance.remote(order()))
    assert "resources.device: cpu" in get(engine.status.remote())["warning"]


def test_the_class_of_engines_is_imported_without_torch() -> None:
    program = (
        "import sys, fpt_ray.engine.actor; print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_streams_end_with_their_trials(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = at_rates("streamed", max_steps=10)
    for each in orders:
        each["settings"] |= {"data": each["settings"]["data"] | {"mode": "streaming"}}
    settings = TrialSettings.model_validate(orders[0]["settings"])
    delivery = deliver([settings], lambda _: None)
    open_streams: set[StreamedTask] = set()
    produce, close = StreamedTask.__init__, StreamedTask.close

    def opened(self: StreamedTask, *arguments: Any) -> None:
        produce(self, *arguments)
        open_streams.add(self)

    def closed(self: StreamedTask) -> None:
        close(self)
        open_streams.discard(self)

    monkeypatch.setattr(StreamedTask, "__init__", opened)
    monkeypatch.setattr(StreamedTask, "close", closed)
    loop = start(Workshop(run, delivery, torch.device("cpu"), METRIC, Shelf()), "auto", 1)
    try:
        found = follow(loop, run, orders[:2])
        loop.submit(orders[2]).result(PATIENCE_S)
        loop.leave(orders[2]["trial_id"])
    finally:
        loop.close()
    assert open_streams == set()
    named = [each["trial_id"] for each in orders[:2]]
    assert_as_alone([found[name] for name in named], orders[:2])
    assert 1 <= (loop.status()["size"] or 0) <= NUM_CPUS


def test_an_engine_counts_the_cpus_that_it_leaves_to_others() -> None:
    @ray.remote(num_cpus=1)
    class Counter:
        def spare(self) -> int:
            return spare_cpus()

    counter: Any = Counter.remote()
    assert get(counter.spare.remote()) == NUM_CPUS - 1
    ray.kill(counter)
