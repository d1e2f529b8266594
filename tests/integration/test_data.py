"""Data through a real Ray: preparing shards, and every mode delivering the same bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import ray

from fpt_ray.config import Resources, TrialSettings
from fpt_ray.data.deliver import Delivery, deliver
from fpt_ray.data.prepare import look, prepare, write_shard
from fpt_ray.data.stream import RowStream
from fpt_ray.engine.places import find_places
from fpt_ray.errors import DataError, FptRayError
from fpt_ray.orchestrate.cluster import device_kind
from fpt_ray.tasks import Batch, Examples, build_task
from fpt_ray.tasks.manifest import SHARD_ROWS
from fpt_ray.tasks.shards import ShardSet, find_shards, shards_location

DATA = Path(__file__).parents[1] / "data"
STEPS = (0, 1, 31, 32, 33, 70)
TASKS: dict[str, dict[str, Any]] = {
    "bit_xor": {},
    "bit_memory": {"length": 100},
    "mnist": {"augment": True},
    "cifar10": {},
    "cifar10_lra": {"patch_size": 4},
    "listops": {"max_length": 48, "train_size": 300},
    "remote_homology": {},
}
MODES = {
    "generated": ("bit_xor", "bit_memory", "listops"),
    "materialized": ("mnist", "cifar10", "cifar10_lra", "listops", "remote_homology"),
    "streaming": tuple(TASKS),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    cache = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        # Workers at their usual low priority would wait for whatever else the machine does.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("FPT_RAY_CACHE", cache)
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data in a place of their own, with a space in its name."""
    return Path(shutil.copytree(DATA, tmp_path_factory.mktemp("place") / "raw data"))


def settings_of(task: str, mode: str, raw: Path) -> TrialSettings:
    return TrialSettings.model_validate(
        {
            "task": {"name": task, **TASKS[task]},
            "data": {"mode": mode, "dir": str(raw)},
            "model": {"backbone": "tiny-gpt2", "init": "random"},
            "training": {"batch_size": 4, "max_steps": 80, "validation_size": 5, "test_size": 6},
        }
    )


def as_bytes(batch: Batch) -> bytes:
    tensors = (batch.tokens, batch.targets, batch.mask, batch.rows)
    return b"|".join(b"" if tensor is None else tensor.numpy().tobytes() for tensor in tensors)


def read(task: Any, seed: int) -> list[bytes]:
    """Read some steps forth, then back, and the evaluation splits."""
    calls = [("train", step) for step in (*STEPS, *reversed(STEPS))]
    calls += [("validation", 0), ("validation", 1), ("test", 1)]
    return [as_bytes(task.batch(split, seed, step, 4)) for split, step in calls]


@ray.remote(num_cpus=1)
def read_elsewhere(delivery: Delivery, settings: TrialSettings, seed: int) -> list[bytes]:
    task = delivery.task(settings, seed)
    found = read(task, seed)
    if hasattr(task, "close"):
        task.close()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_delivers_the_pure_functions_bytes(cluster: None, raw: Path, mode: str) -> None:
    every = [settings_of(task, mode, raw) for task in MODES[mode]]
    delivery = deliver(every, lambda _: None)
    assert delivery.streams == (mode == "streaming")
    for settings in every:
        # Two trials with seeds of their own read at the same time, in processes of their own.
        refs = [read_elsewhere.remote(delivery, settings, seed) for seed in (3, 4)]
        for seed, ref in zip((3, 4), refs, strict=True):
            assert ray.get(ref) == read(build_task(settings), seed), settings.task.name


@dataclass(frozen=True)
class Squares:
    """A source of its own: row i is a 2 x 2 image of i modulo 251."""

    count: int
    version: str = "squares/1"
    broken_at: int | None = None
    name: ClassVar[str] = "squares"
    is_generated: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def num_rows(self, split: str) -> int:
        return self.count if split == "train" else 10

    def read(self, split: str, start: int, stop: int) -> Examples:
        if self.broken_at is not None and start <= self.broken_at < stop:
            raise DataError("row is damaged", where=f"row {self.broken_at}", fix="mend it")
        rows = np.arange(start, stop)
        return Examples(
            (rows % 251).astype(np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2), rows
        )

    def fingerprint(self) -> str:
        return self.version


COUNT = 3 * SHARD_ROWS + 17


def files_below(folder: Path) -> dict[str, int]:
    return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("*.parquet")}


def prepared(source: Squares, place: Path) -> ShardSet:
    return prepare(look(source, str(place)))


def test_preparing_twice_does_nothing_the_second_time(cluster: None, tmp_path: Path) -> None:
    seen = []
    shards = prepare(look(Squares(COUNT), str(tmp_path)), seen.append)
    assert sorted(shard.file for shard in seen) == sorted(files_below(Path(shards.location)))
    assert shards.manifest.count("train").kept == COUNT
    whole = Examples.join([shards.read("train", index) for index in range(4)])
    assert np.array_equal(whole.targets, np.arange(COUNT))
    before = files_below(tmp_path)
    again = look(Squares(COUNT), str(tmp_path))
    assert (again.pending, dict(again.faults)) == ((), {})
    assert prepare(again) == find_shards(Squares(COUNT), str(tmp_path))
    assert files_below(tmp_path) == before


def test_what_an_interrupted_run_has_finished_is_kept(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row is damaged") as error:
        prepared(Squares(COUNT, broken_at=COUNT - 1), tmp_path)
    assert str(error.value) == f"row {COUNT - 1}: row is damaged\n  fix: mend it"
    assert find_shards(Squares(COUNT), str(tmp_path)) is None
    before = files_below(tmp_path)
    assert before
    leftover = Path(shards_location(Squares(COUNT), str(tmp_path))) / "train/.00003.parquet.x.tmp"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    prepared(Squares(COUNT), tmp_path)
    after = files_below(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == 5
    assert not leftover.exists()


def test_damaged_shards_are_named_and_mended(cluster: None, tmp_path: Path) -> None:
    folder = Path(prepared(Squares(COUNT), tmp_path).location)
    whole = {name: (folder / name).read_bytes() for name in files_below(folder)}
    damaged = bytearray(whole["train/00001.parquet"])
    damaged[200] ^= 1
    (folder / "train/00001.parquet").write_bytes(damaged)
    (folder / "test/00000.parquet").unlink()
    preparation = look(Squares(COUNT), str(tmp_path))
    assert set(preparation.faults) == {"train/00001.parquet", "test/00000.parquet"}
    assert [origin.file for origin in preparation.pending] == sorted(
        preparation.faults, reverse=True
    )
    prepare(preparation)
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == whole


def test_a_shard_whose_footer_is_damaged_is_mended(cluster: None, tmp_path: Path) -> None:
    source = Squares(300)
    folder = Path(prepared(source, tmp_path).location)
    file = folder / "train/00000.parquet"
    whole = file.read_bytes()
    for place in range(len(whole) - 800, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        # An interrupted run left it, and no manifest.
        (folder / "manifest.json").unlink(missing_ok=True)
        write_shard(source, str(folder), look(source, str(tmp_path)).pending[0])
        assert file.read_bytes() == whole


@dataclass(frozen=True)
class Changing(Squares):
    """Squares whose files change after they were looked at."""

    def fingerprint(self) -> str:
        self.asked.append(1)
        return f"changing/{len(self.asked)}"

    asked: ClassVar[list[int]] = []


def test_raw_data_that_change_meanwhile_give_no_manifest(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="changed while they were being prepared"):
        prepared(Changing(300), tmp_path)
    assert find_shards(Changing(300), str(tmp_path)) is None


@dataclass(frozen=True)
class Deadly(Squares):
    """Squares whose reading kills the process."""

    def read(self, split: str, start: int, stop: int) -> Examples:
        os._exit(3)


def test_a_process_that_dies_again_and_again_is_an_error(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the process that made data died 3 times"):
        prepared(Deadly(300), tmp_path)
    assert files_below(tmp_path) == {}


def test_a_data_set_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the split train of squares has no rows"):
        look(Squares(0), str(tmp_path))


def test_looking_leaves_another_writers_files_alone(tmp_path: Path) -> None:
    folder = Path(shards_location(Squares(9), str(tmp_path))) / "train"
    folder.mkdir(parents=True)
    young, old = folder / ".00000.parquet.a.tmp", folder / ".00000.parquet.b.tmp"
    for file in (young, old):
        file.touch()
    os.utime(old, (0, 0))
    look(Squares(9), str(tmp_path))
    assert young.exists()
    assert not old.exists()


def test_shards_of_other_raw_data_are_replaced(cluster: None, tmp_path: Path) -> None:
    prepared(Squares(COUNT), tmp_path)
    changed = look(Squares(COUNT, version="squares/2"), str(tmp_path))
    assert changed.is_stale
    assert prepare(changed).manifest.fingerprint == "squares/2"
    assert look(Squares(COUNT, version="squares/2"), str(tmp_path)).pending == ()


def test_a_full_disk_is_a_clear_error_and_leaves_no_half_file(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_to_a_full_device(file: Path, data: bytes) -> None:
        file.touch()
        with Path("/dev/full").open("wb", buffering=0) as device:
            device.write(data)

    monkeypatch.setattr(Path, "write_bytes", write_to_a_full_device)
    pending = look(Squares(COUNT), str(tmp_path)).pending[0]
    # In this process: a patch does not reach Ray's workers.
    with pytest.raises(DataError, match="No space left on device") as error:
        write_shard(Squares(COUNT), str(tmp_path), pending)
    assert "free space" in str(error.value)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_damaged_shard_ends_a_stream_with_its_name(cluster: None, raw: Path) -> None:
    settings = settings_of("mnist", "streaming", raw)
    delivery = deliver([settings], lambda _: None)
    (shards,) = delivery.loader.shards.values()
    file = Path(shards.location) / "train/00000.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    task = delivery.task(settings, 0)
    try:
        with pytest.raises(DataError, match="its manifest says") as error:
            task.batch("train", 0, 0, 4)
        assert error.value.problem.where == str(file)
    finally:
        file.write_bytes(whole)


def numbered(opened: list[int], length: int) -> RowStream:
    """Make a stream whose row at position p holds p, in pieces of seven, ending after length."""

    def start_at(position: int) -> Iterator[tuple[int, Examples]]:
        opened.append(position)
        for first in range(position, position + length, 7):
            numbers = np.arange(first, min(first + 7, position + length))
            yield first, Examples(numbers, numbers)

    return RowStream(start_at)


def test_a_stream_goes_on_where_it_ends_and_goes_back_by_opening_anew() -> None:
    opened: list[int] = []
    stream = numbered(opened, length=50)
    for start, stop in ((0, 20), (20, 45), (40, 60), (55, 90), (3, 9), (3, 30)):
        assert stream.fetch(start, stop).targets.tolist() == list(range(start, stop))
    assert opened == [0, 50, 3]
    stream.close()


def test_rows_out_of_order_are_refused() -> None:
    def start_at(position: int) -> Iterator[tuple[int, Examples]]:
        yield position + 1, Examples(np.arange(3), np.arange(3))

    with pytest.raises(FptRayError, match="delivered position 1 where 0 was next"):
        RowStream(start_at).fetch(0, 2)


def test_a_stream_that_starves_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    ended = threading.Event()

    def start_at(position: int) -> Iterator[tuple[int, Examples]]:
        ended.wait(60)
        yield position, Examples(np.arange(3), np.arange(3))

    monkeypatch.setattr("fpt_ray.data.stream.STARVED_AFTER_S", 0.1)
    stream = RowStream(start_at)
    try:
        with pytest.raises(DataError, match="as if it got no CPU") as error:
            stream.fetch(0, 2)
        assert "data.mode: materialized" in str(error.value)
        stream.close()
        assert not ended.is_set()
    finally:
        ended.set()


def test_streaming_leaves_a_cpu_to_ray_data(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [place.num_cpus for place in find_places(ray.nodes(), "cpu", streams=False)] == [3]
    (place,) = find_places(ray.nodes(), "cpu", streams=True)
    assert (place.num_cpus, place.num_threads) == (2, 2)
    assert device_kind(Resources(device="cpu"), streams=True) == "cpu"
    lonely = [{"Alive": True, "Resources": {"CPU": 1.0}}]
    monkeypatch.setattr("fpt_ray.orchestrate.cluster.ray.nodes", lambda: lonely)
    with pytest.raises(FptRayError, match="no machine has two CPUs") as error:
        device_kind(Resources(device="cpu"), streams=True)
    assert "data.mode: materialized" in str(error.value)
