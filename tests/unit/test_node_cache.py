"""The node-local cache."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest

from fpt_ray.node_cache import CACHE_VARIABLE, cache_dir, write_once


def append(log: Path, file: Path) -> None:
    def write(temporary: Path) -> None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write("written\n")
        temporary.write_text("content", encoding="utf-8")

    write_once(file, write)


def test_the_variable_moves_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_dir() == Path.home() / ".cache" / "fpt_ray"


def test_of_many_processes_one_writes(tmp_path: Path) -> None:
    log, file = tmp_path / "log", tmp_path / "deep" / "file"
    with get_context("fork").Pool(4) as pool:
        pool.starmap(append, [(log, file)] * 8)
    assert file.read_text(encoding="utf-8") == "content"
    assert log.read_text(encoding="utf-8") == "written\n"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_once(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
