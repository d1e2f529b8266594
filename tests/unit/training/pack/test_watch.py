"""Each trial's divergence is found at its step."""

from __future__ import annotations

import math

import pytest
import torch

from fpt_ray.training.divergence import Divergence
from fpt_ray.training.pack.watch import PackWatch

CPU = torch.device("cpu")

LOSSES = [[1.0, 2.0, 3.0], [1.0, math.nan, 3.0], [2e4, 2.0, 3.0], [1.0, 2.0, 3.0]]
NORMS = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, math.nan], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("waits", [False, True])
def test_the_first_fault_of_each_trial_is_reported_on_every_device(waits: bool) -> None:
    watch = PackWatch(9, 3, CPU, waits=waits)
    known = [
        watch.record(torch.tensor(losses), torch.tensor(norms))
        for losses, norms in zip(LOSSES, NORMS, strict=True)
    ]
    assert known == ([set()] * 4 if waits else [set(), {1}, {0, 1, 2}, {0, 1, 2}])
    watch.finish()
    assert watch.divergences == [
        Divergence(2, "the training loss rose to 2e+04, above 10000"),
        Divergence(1, "the training loss became nan"),
        Divergence(2, "the gradient norm became nan"),
    ]
    assert watch.num_steps == 4
    assert watch.losses[0] == [1.0, 1.0, 2e4, 1.0]
    assert watch.losses[2] == [3.0] * 4


@pytest.mark.parametrize("waits", [False, True])
def test_nothing_recorded_is_nothing_found(waits: bool) -> None:
    watch = PackWatch(3, 2, CPU, waits=waits)
    watch.finish()
    assert (watch.num_steps, watch.losses, watch.divergences) == (0, [[], []], [None, None])
