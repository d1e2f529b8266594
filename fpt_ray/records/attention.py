"""Attention maps as plain arrays: computed where the models are, drawn where no model is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of a sequence that belong together: a bit string, a row of patches."""

    label: str
    num_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Where the tokens of a trained trial look, averaged over heads and sequences.

    Attributes:
        arm: whose finalist it is.
        trial_id: which finalist.
        step: when its best parameters were saved, in training steps.
        num_samples: sequences that were averaged.
        weights: (layers, seq, seq) float32, attending token by attended token; rows sum to 1.
        segments: the sequence's parts, in order; together they have ``seq`` tokens.
        read: positions that the output layer reads.
        is_shuffled: whether the tokens came in another order than the task gives them.
    """

    arm: str
    trial_id: str
    step: int
    num_samples: int
    weights: npt.NDArray[np.float32]
    segments: tuple[Segment, ...]
    read: tuple[int, ...]
    is_shuffled: bool = False
