"""The model that every trial trains: input layer, body, output layer."""

from __future__ import annotations

from torch import Tensor, nn

from fpt_ray.config import ParameterRole
from fpt_ray.models.body import Body
from fpt_ray.models.ends import Ends, build_input_layer, build_output_layer
from fpt_ray.models.families import set_dropout
from fpt_ray.models.reading import READERS, draw_order, reorder


class SequenceModel(nn.Module):
    """Read sequences through a body that may have been built for something else.

    With a frozen pretrained transformer as its body this is an FPT.

    Source: Lu et al. 2021 (arXiv:2103.05247), section 2.2; kzl/universal-computation 23b80fd,
    whose hidden layers are followed by ReLU and dropout.

    Args:
        body: what lies between the ends; the model is built from its blueprint.
        ends: what the input and output layers take, read and give.
        dropout: probability at the input and in every dropout of the body, in [0, 1).
        attention: transformers' name of the attention implementation.
    """

    _order: Tensor | None

    def __init__(self, body: Body, ends: Ends, dropout: float, attention: str = "eager") -> None:
        super().__init__()
        self.num_read = ends.num_read
        self.input_layer = build_input_layer(ends, body.hidden_size)
        self.dropout = nn.Dropout()
        self.backbone = body.blueprint(attention)
        self._body = body
        self._read = READERS[ends.read]
        self.output_layer = build_output_layer(ends, body.hidden_size)
        # A buffer, so that models whose seeds differ keep their own when they are stacked.
        self.register_buffer("_order", None, persistent=False)
        set_dropout(self, dropout)

    def shuffle(self, seed: int, seq_length: int) -> None:
        """Read all tokens but the last ``num_read`` in an order that a seed draws, always the same.

        Args:
            seed: the trial's seed.
            seq_length: tokens in the task's longest sequence.
        """
        self._order = draw_order(seed, seq_length)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the logits at the read tokens.

        Args:
            tokens: (batch, seq, features) float32, or (batch, seq) int64 ids.
            mask: (batch, seq) bool, False at the padding after a sequence's last token, which
                changes no logits; every sequence has at least ``num_read`` tokens. None where
                every token is real.

        Returns:
            (batch, num_read, num_logits).
        """
        logits: Tensor = self.output_layer(self.features(tokens, mask))
        return logits

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute what the output layer reads, (batch, num_read, hidden_size)."""
        if self._order is not None:
            tokens = reorder(tokens, mask, self._order, self.num_read)
        embedded = self.dropout(self.input_layer(tokens))
        hidden = self._body.run(self.backbone, embedded, mask)
        return self._read(hidden, mask, self.num_read)


def parameter_roles(model: SequenceModel, body: Body) -> tuple[ParameterRole, ...]:
    """Assign every parameter of a model to exactly one group.

    Raises:
        ModelError: the backbone holds parameters in a module whose role is unknown.
    """
    ends = (
        ParameterRole(f"{path}.{name}", group, None, parameter.numel())
        for path, group in (("input_layer", "input"), ("output_layer", "output"))
        for name, parameter in model.get_submodule(path).named_parameters()
    )
    return (*ends, *body.roles(model.backbone, "backbone."))
