from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fpt_ray.imports import end_quickly, large_imports


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_garbage_is_not_looked_for_inside_and_what_was_made_is_left_alone_afterwards() -> None:
    gc.unfreeze()
    with large_imports():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(made)


def test_a_failed_import_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ModuleNotFoundError), large_imports():
        import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
    gc.disable()
    with large_imports():
        pass
    assert not gc.isenabled()


def test_at_its_end_a_process_freezes_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    end_quickly()
    assert registered == [gc.freeze]
