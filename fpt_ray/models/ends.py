"""The layers at the ends of every model: how tokens come in, and how logits go out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from fpt_ray.models.reading import Read
from fpt_ray.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Ends:
    """What the layers at the ends of a model take, read and give.

    Attributes:
        input_kind: what a token is: ``features``, or one of the ``ids``.
        input_size: features of a token, or the number of ids.
        num_read: how many real tokens are read; 1 where their mean is.
        num_logits: logits at each read token.
        input_mlp: hidden sizes before the input layer.
        output_mlp: hidden sizes before the output layer.
        input_layer: ``linear`` reads ids as one-hot vectors; ``auto`` embeds them, and is linear
            for features.
        read: which real tokens are read.
    """

    input_kind: Literal["features", "ids"]
    input_size: int
    num_read: int
    num_logits: int
    input_mlp: tuple[int, ...] = ()
    output_mlp: tuple[int, ...] = ()
    input_layer: Literal["auto", "linear", "embedding"] = "auto"
    read: Read = "last"


class OneHotLinear(nn.Linear):
    """A linear layer on one-hot vectors that are given by the place of their one.

    Multiplying by such a vector chooses a column of the weights.
    """

    def forward(self, ids: Tensor) -> Tensor:
        """Compute (batch, seq, out_features) from (batch, seq) ids below ``in_features``."""
        return nn.functional.embedding(ids, self.weight.T) + self.bias


def build_input_layer(ends: Ends, hidden_size: int) -> nn.Sequential:
    """Build the layers that make tokens out of the task's features or ids, on the meta device."""
    sizes = (ends.input_size, *ends.input_mlp, hidden_size)
    if ends.input_kind == "features":
        return _layers(sizes)
    if ends.input_layer == "linear":
        return _layers(sizes, OneHotLinear)
    first_size = (*ends.input_mlp, hidden_size)[0]
    embedding = nn.Embedding(ends.input_size, first_size, device="meta")
    if not ends.input_mlp:
        return nn.Sequential(embedding)
    rest = _layers((*ends.input_mlp, hidden_size))
    return nn.Sequential(embedding, nn.ReLU(), nn.Dropout(), *rest)


def build_output_layer(ends: Ends, hidden_size: int) -> nn.Sequential:
    """Build the layers that make logits out of what is read, on the meta device."""
    return _layers((hidden_size, *ends.output_mlp, ends.num_logits))


def draw_ends(
    input_layer: nn.Module, output_layer: nn.Module, orthogonal_gain: float, seed: int
) -> None:
    """Initialise the input and output layers from a seed.

    The input layer's weights are orthogonal and its biases zero; the output layer's are uniform
    in +-1/sqrt(fan_in), as torch draws them.

    Args:
        input_layer: as ``build_input_layer`` makes it; it comes to the CPU.
        output_layer: as ``build_output_layer`` makes it; it comes to the CPU.
        orthogonal_gain: scale of the input layer's weights.
        seed: the trial's seed.
    """
    input_layer.to_empty(device="cpu")
    output_layer.to_empty(device="cpu")
    generator = torch.Generator()
    generator.manual_seed(derive_seed(seed, "input_layer"))
    for layer in input_layer.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=orthogonal_gain, generator=generator)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, generator=generator)
    generator.manual_seed(derive_seed(seed, "output_layer"))
    for layer in output_layer.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _layers(sizes: Sequence[int], first: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    """Stack linear layers, the first of a given type, with ReLU and dropout between them."""
    stack: list[nn.Module] = [first(sizes[0], sizes[1], device="meta")]
    for fan_in, fan_out in pairwise(sizes[1:]):
        stack += [nn.ReLU(), nn.Dropout(), nn.Linear(fan_in, fan_out, device="meta")]
    return nn.Sequential(*stack)
