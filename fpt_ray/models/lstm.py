"""The LSTM baseline: a stack of LSTM layers between the ends, drawn from the trial's seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fpt_ray.config import ParameterRole
from fpt_ray.models.weights import SharedWeights, generated_weights
from fpt_ray.seeding import derive_seed

POSITION_STD = 0.02
"""Deviation of the position table, small beside embedded tokens. Source: GPT-2."""


@dataclass(frozen=True, slots=True)
class LSTMBody:
    """A stack of LSTM layers; its fields are its architecture.

    The released code normalises inside its cells, step by step in Python. Here each layer's output
    is normalised, which leaves the recurrence to torch's fused kernels.

    Source: Lu et al. 2021 (arXiv:2103.05247), sections 3.1 and 3.3, for the two shapes; what is
    added around a layer as in kzl/universal-computation 23b80fd.

    Attributes:
        hidden_size: features of a token between the layers.
        num_layers: LSTM layers.
        layer_norm: whether each layer's output is normalised.
        residual: whether each layer's input is added to its output.
        num_positions: rows of the learned table that is added to embedded tokens; None for none.
    """

    hidden_size: int
    num_layers: int
    layer_norm: bool = True
    residual: bool = False
    num_positions: int | None = None

    @property
    def causal(self) -> bool:
        """Whether tokens see only those before them."""
        return True

    @property
    def takes_ids(self) -> bool:
        """Whether ids may be embedded."""
        return True

    def blueprint(self, attention: str) -> nn.Module:
        """Build the module on the meta device; it has no attention."""
        del attention
        with torch.device("meta"):
            return Stack(self)

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states, as ``Body.run`` says: no token sees the padding after it."""
        del mask
        hidden: Tensor = module(embedded)
        return hidden

    def roles(self, module: nn.Module, prefix: str) -> Iterator[ParameterRole]:
        """Assign every parameter to its group and layer, as ``Body.roles`` says."""
        for name, parameter in module.named_parameters():
            part, *path = name.split(".")
            layer, group = (int(path[0]), path[1]) if part == "layers" else (None, part)
            yield ParameterRole(f"{prefix}{name}", group, layer, parameter.numel())

    def weights(self, seed: int) -> SharedWeights:
        """Map the weights, drawing them from ``seed`` once per node."""
        name = f"random-{self.fingerprint()}-{seed}-torch{torch.__version__}"
        return generated_weights(name, lambda: self._draw(seed))

    def fit(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave the numbers as they are."""
        return dict(tensors)

    def fingerprint(self) -> str:
        """Identify the architecture; the seed draws the numbers."""
        options = {
            "layer_norm": self.layer_norm,
            "residual": self.residual,
            f"positions{self.num_positions}": self.num_positions is not None,
        }
        shape = f"lstm-{self.num_layers}x{self.hidden_size}"
        return "-".join((shape, *(option for option, present in options.items() if present)))

    def _draw(self, seed: int) -> dict[str, Tensor]:
        """Draw all parameters as torch does, and the position table as GPT-2 does."""
        stack = self.blueprint("eager").to_empty(device="cpu")
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "lstm"))
            for module in stack.modules():
                if isinstance(module, nn.LSTM | nn.LayerNorm):
                    module.reset_parameters()
            if self.num_positions is not None:
                stack.get_parameter("positions").normal_(std=POSITION_STD)
        return {name: value.detach() for name, value in stack.named_parameters()}


class Stack(nn.Module):
    """Embedded tokens, plus their positions, through one layer after the other.

    Its parts are named by the groups that they belong to.
    """

    positions: nn.Parameter | None

    def __init__(self, body: LSTMBody) -> None:
        super().__init__()
        shape = (body.num_positions or 0, body.hidden_size)
        table = None if body.num_positions is None else nn.Parameter(torch.empty(shape))
        self.register_parameter("positions", table)
        last = body.num_layers - 1
        layers = (_Layer(body, is_last=index == last) for index in range(body.num_layers))
        self.layers = nn.ModuleList(layers)

    def forward(self, embedded: Tensor) -> Tensor:
        """Compute the hidden states, (batch, seq, hidden_size) like ``embedded``."""
        hidden = embedded
        if self.positions is not None:
            hidden = hidden + self.positions[: embedded.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class _Layer(nn.Module):
    """LSTM, layer norm, dropout before the next layer, and the residual connection around them."""

    def __init__(self, body: LSTMBody, is_last: bool) -> None:
        super().__init__()
        size = body.hidden_size
        self.recurrent = nn.LSTM(size, size, batch_first=True)
        self.layer_norm = nn.LayerNorm(size) if body.layer_norm else nn.Identity()
        self.dropout = nn.Identity() if is_last else nn.Dropout()
        self.residual = body.residual

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute one layer's output, (batch, seq, hidden_size) like ``hidden``."""
        new: Tensor = self.dropout(self.layer_norm(self.recurrent(hidden)[0]))
        return hidden + new if self.residual else new
