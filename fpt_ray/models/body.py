"""What a model has between its ends: a transformer, an LSTM, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor, nn

from fpt_ray.config import ParameterRole
from fpt_ray.models.weights import SharedWeights


class Body(Protocol):
    """A module without its numbers, the numbers that belong to it, and what they are for."""

    @property
    def hidden_size(self) -> int:
        """Features of a token."""
        ...

    @property
    def num_positions(self) -> int | None:
        """The longest sequence that it takes; None where there is no limit."""
        ...

    @property
    def causal(self) -> bool:
        """Whether tokens see only those before them, and so never the padding after them."""
        ...

    @property
    def takes_ids(self) -> bool:
        """Whether it reads embedded ids as it reads projected features."""
        ...

    def blueprint(self, attention: str) -> nn.Module:
        """Build the module on the meta device.

        Args:
            attention: transformers' name of the attention implementation.
        """
        ...

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states.

        Args:
            module: from ``blueprint``, with its numbers.
            embedded: (batch, seq, hidden_size).
            mask: (batch, seq) bool, False at padding, which must not change the hidden states of
                real tokens; None where every token is real.

        Returns:
            (batch, seq, hidden_size).
        """
        ...

    def roles(self, module: nn.Module, prefix: str) -> Iterator[ParameterRole]:
        """Assign every parameter of a module from ``blueprint`` to its group and layer.

        Args:
            module: from ``blueprint``.
            prefix: put before the names.

        Raises:
            ModelError: a module that holds parameters has no known role.
        """
        ...

    def weights(self, seed: int) -> SharedWeights:
        """Map the numbers, drawing random ones from ``seed`` once per node.

        Raises:
            ModelError: they are missing or damaged.
        """
        ...

    def fit(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shape the numbers for a body that was changed after they were published."""
        ...

    def fingerprint(self) -> str:
        """Identify the body: its architecture, and its numbers where no seed draws them.

        Raises:
            ModelError: the numbers are missing or damaged.
        """
        ...
