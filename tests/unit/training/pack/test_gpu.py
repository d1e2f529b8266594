"""Packs on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.training import Pack, build_trainer
from tests.unit.training.pack.trials import Packs, figures, prepare_all

MakeSettings = Callable[..., TrialSettings]

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_trials_in_a_pack_are_as_alone(settings_of: MakeSettings, family: str) -> None:
    jobs = [(settings_of(family, model__trained=["input", "layer_norm"]), s) for s in range(3)]
    trials = prepare_all(jobs, device="cuda")
    found = Packs().advance(trials, 20)
    for evaluation, job in zip(found, jobs, strict=True):
        expected = build_trainer(*job, device="cuda").advance(20)
        assert figures(evaluation) == pytest.approx(figures(expected), rel=1e-4)


def test_no_step_waits_for_the_device(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(), seed) for seed in range(3)], device="cuda")
    pack = Pack(trials[0])
    pack.train(trials, 2)
    waits: list[int] = []

    def never() -> bool:
        torch.cuda.set_sync_debug_mode("error")
        waits.append(1)
        return False

    try:
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            # Only the look at all losses, after the last step, may wait.
            pack.train(trials, 5, never)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 5


def test_a_divergence_is_found_at_its_step_after_the_interval(settings_of: MakeSettings) -> None:
    wild = (settings_of(training__learning_rate=1e6), 7)
    jobs = [(settings_of(), 0), wild]
    trials = prepare_all(jobs, device="cuda")
    pack = Pack(trials[0])
    assert pack.train(trials, 6) == 6
    found = pack.evaluate(trials)
    expected = build_trainer(*wild, device="cuda").advance(6)
    assert (found[1].step, found[1].diverged) == (expected.step, True)
    assert (found[0].step, found[0].diverged) == (6, False)
