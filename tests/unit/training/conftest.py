"""A node cache of their own for the tests of training, and small trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.node_cache import CACHE_VARIABLE

MakeSettings = Callable[..., TrialSettings]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from threads, which stall where other tests run beside."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def node_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's cache, empty."""
    folder = tmp_path / "node_cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def make_settings() -> MakeSettings:
    """A function from dotted keys (``training__dropout=0.0``) to a small trial's settings."""
    base = TrialSettings.model_validate(
        {
            "task": {"name": "bit_xor"},
            "model": {
                "backbone": "tiny-gpt2",
                "init": "random",
                "trained": ["input", "output", "layer_norm", "positions"],
            },
            "training": {"batch_size": 4, "max_steps": 6, "validation_size": 16, "test_size": 32},
        }
    )

    def make(**values: Any) -> TrialSettings:
        return base.with_values({key.replace("__", "."): value for key, value in values.items()})

    return make
