"""What all tests share: markers by folder, skips that say what is missing, and the real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from fpt_ray.cores import prepare_cores
from tests.object_store import ObjectStore, running_store

# Libraries read these when they are imported, so they are set before any test is: no test reaches a
# hub unless it is marked `network` and asked for, and Ray reports no usage statistics.
NETWORK_ALLOWED = os.environ.get("FPT_RAY_NETWORK_TESTS") == "1"
if not NETWORK_ALLOWED:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several processes that wait for each other on the same cores triple the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
prepare_cores()

MARKED_FOLDERS = ("integration", "e2e")
TESTS = Path(__file__).parent


class _OneSweep(LoadFileScheduling):
    """Gives whole files to processes, and all that runs whole sweeps to the same one.

    Two sweeps at a time would only wait for each other; beside one there is room for the rest.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/e2e/"):
            return "tests/e2e"
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _OneSweep(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(getattr(pytest.mark, folder))
        if folder == "e2e":
            # Every start of Ray costs ten seconds, and many times that on a busy machine.
            item.add_marker(pytest.mark.timeout(1200))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.skip("needs a CUDA device; torch sees none")
    if item.get_closest_marker("network") and not NETWORK_ALLOWED:
        pytest.skip("downloads from a public host; set FPT_RAY_NETWORK_TESTS=1 to allow it")
    if item.get_closest_marker("long") and os.environ.get("FPT_RAY_LONG_TESTS") != "1":
        pytest.skip("takes minutes; set FPT_RAY_LONG_TESTS=1 to run it")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the complete MNIST and a pretrained MiniLM, as the variable names it."""
    folder = os.environ.get("FPT_RAY_REAL_DATA")
    if not folder:
        pytest.skip("needs the complete MNIST; FPT_RAY_REAL_DATA names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3-compatible store with one bucket, on loopback; keys are checked."""
    with running_store("fpt-ray") as store:
        yield store
