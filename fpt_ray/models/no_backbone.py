"""The control without a backbone: what the ends can do alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fpt_ray.config import ParameterRole
from fpt_ray.models.weights import SharedWeights


@dataclass(frozen=True, slots=True)
class NoBackbone:
    """Nothing between the ends: hidden states are the embedded tokens.

    Attributes:
        hidden_size: features of a token between the ends.
    """

    hidden_size: int

    @property
    def num_positions(self) -> int | None:
        """The longest sequence that it takes: any."""
        return None

    @property
    def causal(self) -> bool:
        """Each token sees itself alone, so the first one knows no less than the last."""
        return False

    @property
    def takes_ids(self) -> bool:
        """Whether ids may be embedded."""
        return True

    def blueprint(self, attention: str) -> nn.Module:
        """Build a module without parameters."""
        del attention
        return nn.Identity()

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Pass the tokens on; none sees any padding."""
        del mask
        hidden: Tensor = module(embedded)
        return hidden

    def roles(self, module: nn.Module, prefix: str) -> Iterator[ParameterRole]:
        """Yield nothing: there are no parameters."""
        del module, prefix
        return iter(())

    def weights(self, seed: int) -> SharedWeights:
        """Give no numbers."""
        del seed
        return SharedWeights({})

    def fit(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave no numbers as they are."""
        return dict(tensors)

    def fingerprint(self) -> str:
        """Identify the architecture."""
        return f"no_backbone-{self.hidden_size}"
