"""The device of an engine: which it is, and which of its errors mean what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpt_ray.engine import device as module
from fpt_ray.engine.device import choose_device, free_bytes, is_fatal, is_out_of_memory, peak_bytes

CPU = torch.device("cpu")


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("blind")
def test_a_gpu_that_torch_does_not_see_is_a_warning_or_an_error() -> None:
    found = choose_device("auto", was_given_gpu=True)
    assert (found.device, found.refusal) == (CPU, None)
    assert found.warning == "torch sees no GPU where Ray gave one: CPUs are used"
    refused = choose_device("cuda", was_given_gpu=True)
    assert "torch sees no GPU" in str(refused.refusal)
    assert refused.warning == str(refused.refusal)


@pytest.mark.usefixtures("blind")
def test_a_cpu_that_was_wanted_is_no_matter() -> None:
    assert choose_device("auto", was_given_gpu=False).warning is None
    assert choose_device("cpu", was_given_gpu=True).warning is None


def test_a_gpu_is_used_unless_a_cpu_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", was_given_gpu=True).device == torch.device("cuda", 0)
    assert choose_device("cpu", was_given_gpu=True).device == CPU


def test_what_torch_says_when_memory_is_too_little_is_understood() -> None:
    # More than any address space holds.
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**60)
    assert is_out_of_memory(refusal.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_only_a_lost_gpu_is_fatal() -> None:
    assert is_fatal(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not is_fatal(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_fatal(RuntimeError("shapes do not match"))


def test_the_memory_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    machine = free_bytes(CPU)
    assert machine > 0
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes(CPU) > 2**20
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_bytes(CPU) == 4000


def test_the_peak_of_a_process_is_told_in_bytes() -> None:
    assert 2**26 < peak_bytes(CPU) < 2**40


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_what_was_held_since_it_was_forgotten() -> None:
    gpu = torch.device("cuda", 0)
    module.reset_peak(gpu)
    before = peak_bytes(gpu)
    held = torch.ones(2**20, device=gpu)
    assert peak_bytes(gpu) - before >= 4 * held.numel()
    assert 0 < free_bytes(gpu) <= torch.cuda.mem_get_info(gpu)[1]
