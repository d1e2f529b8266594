from __future__ import annotations

import os
from pathlib import Path

import pytest

from fpt_ray.errors import RunDirectoryError
from fpt_ray.storage import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs with spaces" / "ünïcode")


def test_what_was_written_is_read(run: RunDirectory) -> None:
    run.write_bytes("trials/a/state.safetensors", b"\0\1")
    assert run.read_bytes("trials/a/state.safetensors") == b"\0\1"
    assert run.entries("trials") == ["a"]
    assert run.exists("trials/a")
    assert run.name == "ünïcode"


def test_what_is_missing_reads_as_none(run: RunDirectory) -> None:
    assert run.read_bytes("nowhere") is None
    assert run.read_json("nowhere.json") is None
    assert run.entries("nowhere") == []
    assert not run.exists()
    run.delete("nowhere")


def test_a_write_replaces_the_whole_file_and_leaves_no_temporary(run: RunDirectory) -> None:
    run.write_json("a.json", {"long": "x" * 100})
    run.write_json("a.json", {"short": 1})
    assert run.read_json("a.json") == {"short": 1}
    assert run.entries() == ["a.json"]


def test_a_failed_write_keeps_the_former_file(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_bytes("log", b"former")

    def full_disk(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(RunDirectoryError, match="No space left on device"):
        run.write_bytes("log", b"new")
    assert run.read_bytes("log") == b"former"
    assert run.entries() == ["log"]


def test_leftovers_of_killed_writers_are_swept(run: RunDirectory) -> None:
    run.write_bytes("trials/a/log", b"kept")
    assert run.local_path is not None
    leftover = run.local_path / "trials" / "a" / ".log.0123.tmp"
    leftover.write_bytes(b"half")
    run.sweep_temporaries()
    assert not leftover.exists()
    assert run.read_bytes("trials/a/log") == b"kept"


def test_a_damaged_json_file_is_named(run: RunDirectory) -> None:
    run.write_bytes("resolved.json", b"{")
    with pytest.raises(RunDirectoryError, match=r"resolved\.json: not JSON.*\n.*another name"):
        run.read_json("resolved.json")
    run.write_bytes("trials/t/config.json", b"{")
    with pytest.raises(RunDirectoryError, match="delete its folder to train that trial anew"):
        run.read_json("trials/t/config.json")


def test_a_stray_file_among_directories_is_no_directory(run: RunDirectory) -> None:
    run.write_bytes("trials/a/log", b"")
    run.write_bytes("trials/.DS_Store", b"")
    assert run.directories("trials") == ["a"]
    assert run.entries("trials") == [".DS_Store", "a"]


def test_a_file_uri_is_the_path_that_it_names() -> None:
    assert RunDirectory("file:///tmp/a%20b").uri == "/tmp/a b"
    assert RunDirectory("file://localhost/tmp/x").uri == "/tmp/x"
    with pytest.raises(RunDirectoryError, match="not a file URI of this machine"):
        RunDirectory("file://elsewhere/tmp/x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_place_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunDirectoryError, match="--storage"):
        RunDirectory(tmp_path / "x").write_bytes("a", b"")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunDirectoryError, match="check that the place exists"):
        RunDirectory(tmp_path / "runs" / "x").write_bytes("a", b"")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(RunDirectoryError, match="nosuch://x: not a storage location"):
        RunDirectory("nosuch://x")


def test_a_uri_of_another_filesystem_works() -> None:
    run = RunDirectory("mock:///runs/x")
    run.write_bytes("trials/a/log", b"1")
    assert run.uri == "mock:///runs/x"
    assert run.local_path is None


def test_paths_of_a_trial_lie_in_its_folder(run: RunDirectory) -> None:
    names = [run.config_of("t"), run.log_of("t"), run.state_of("t"), run.best_of("t")]
    assert names == [
        "trials/t/config.json",
        "trials/t/evaluations.jsonl",
        "trials/t/state.safetensors",
        "trials/t/best.safetensors",
    ]


@pytest.mark.parametrize(
    ("storage", "uri"),
    [
        ("/runs/", "/runs/demo"),
        ("/odd?path", "/odd?path/demo"),
        ("mock:///runs", "mock:///runs/demo"),
        ("mock:///runs/?region=here", "mock:///runs/demo?region=here"),
    ],
)
def test_a_sweep_has_its_directory_below_the_storage(storage: str, uri: str) -> None:
    run = RunDirectory.below(storage, "demo")
    assert (run.uri, run.name) == (uri, "demo")
