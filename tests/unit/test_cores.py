"""What torch is told about a CPU, and that matrix products then round every row alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fpt_ray import cores
from fpt_ray.cores import prepare_cores

ROWS_ROUND_ALIKE = """
from fpt_ray.cores import prepare_cores
prepare_cores()
import torch
torch.manual_seed(0)
for features, outputs in [(1536, 384), (3072, 768), (384, 1152)]:
    weight, hidden = torch.randn(outputs, features), torch.randn(16 * 80, features)
    few = torch.nn.functional.linear(hidden[:80], weight)
    many = torch.nn.functional.linear(hidden, weight)
    assert torch.equal(few, many[:80]), (features, outputs)
"""


@pytest.fixture(autouse=True)
def as_if_nothing_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_CBWR"):
        # Set first, so that what is set by a test is undone.
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that says what processor this is."""
    place = tmp_path / "cpuinfo"
    monkeypatch.setattr(cores, "_CPU_INFO", place)
    return place


@pytest.mark.parametrize(
    ("set_by_the_user", "found"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(
    set_by_the_user: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in set_by_the_user.items():
        monkeypatch.setenv(name, value)
    prepare_cores()
    assert os.environ.get("GOMP_SPINCOUNT") == found


@pytest.mark.parametrize(
    ("processor", "found"), [("GenuineIntel", "AUTO,STRICT"), ("AuthenticAMD", None)]
)
def test_products_are_told_to_round_alike_where_that_was_seen_to_be_cheap(
    processor: str, found: str | None, vendor: Path
) -> None:
    vendor.write_text(f"processor : 0\nvendor_id : {processor}\n")
    prepare_cores()
    assert os.environ.get("MKL_CBWR") == found


def test_what_the_user_says_about_products_stays(
    vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.write_text("vendor_id : GenuineIntel\n")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    prepare_cores()
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"


def test_a_system_that_does_not_name_its_processor_is_left_alone(vendor: Path) -> None:
    prepare_cores()
    assert "MKL_CBWR" not in os.environ


@pytest.mark.skipif(not cores.made_by_intel(), reason="torch multiplies by MKL's rules on Intel")
def test_a_row_of_a_product_does_not_depend_on_how_many_there_are() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", ROWS_ROUND_ALIKE], check=True, env=environment)
