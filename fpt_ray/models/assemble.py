"""Put weights into a model: shared ones where it is frozen, its own where it is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from fpt_ray.models.body import Body
from fpt_ray.models.sequence_model import SequenceModel
from fpt_ray.models.weights import digest_tensor

_PREFIX = "backbone."


def attention_for(device: torch.device) -> str:
    """Choose the attention implementation for a device.

    On CPUs eager attention is as fast as SDPA for one trial (0.94 to 1.05 times its step time
    over MiniLM and GPT-2 base, 10 to 120 tokens, one and two threads) and can be vectorised.
    """
    return "sdpa" if device.type == "cuda" else "eager"


def materialise(
    model: SequenceModel,
    body: Body,
    trained: frozenset[str],
    seed: int,
    device: torch.device,
    copied: bool = True,
) -> str:
    """Give a meta-built model's body its weights, on a device.

    Frozen parameters are views of the shared weights and must not be written to; trained ones
    are copies.

    Args:
        model: built from ``body``, its ends already drawn.
        body: where the weights come from.
        trained: names of the parameters that get updates.
        seed: the trial's seed, from which random backbones are drawn.
        device: where the model shall be.
        copied: False where nothing is trained in this model itself, whose trained parameters are
            views then too.

    Returns:
        The fingerprint of the frozen parameters, as ``frozen_fingerprint`` computes it.

    Raises:
        ModelError: the weights are missing or damaged.
    """
    weights = body.weights(seed)
    placed = body.fit(weights.on(device))
    state: dict[str, Tensor] = {}
    digests: dict[str, str] = {}
    for name, parameter in model.backbone.named_parameters():
        full_name = _PREFIX + name
        is_trained = full_name in trained
        parameter.requires_grad_(is_trained)
        state[name] = placed[name].clone() if is_trained and copied else placed[name]
        if placed[name] is weights.on(device)[name]:
            digests[full_name] = weights.digest(name)
    model.backbone.load_state_dict(state, strict=True, assign=True)
    model.to(device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return _combine(model, digests)


def frozen_fingerprint(model: SequenceModel) -> str:
    """Hash all frozen parameters as they are now."""
    return _combine(model, {})


def combine_digests(digests: Mapping[str, str]) -> str:
    """Hash parameters that are hashed one by one already, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(digests):
        digest.update(f"{name}={digests[name]};".encode())
    return digest.hexdigest()


def _combine(model: SequenceModel, known: dict[str, str]) -> str:
    frozen = ((n, p) for n, p in model.named_parameters() if not p.requires_grad)
    return combine_digests({n: known.get(n) or digest_tensor(p) for n, p in frozen})
