"""A model that computes several trials at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from fpt_ray.models.cuts import Cut
from fpt_ray.models.folding.rules import Replacer
from fpt_ray.models.folding.stacked import Fold
from fpt_ray.models.sequence_model import SequenceModel


class Folded(nn.Module):
    """A model that computes several trials at once, their sequences in one batch.

    Modules without parameters of the trials' own run once, as they are, on all sequences: there is
    one copy of what is frozen. The others are exchanged for versions that compute each trial's
    sequences with its own values. No trial's numbers reach another's.

    Args:
        model: materialised; it is consumed, since its modules are replaced.
        own: names of the parameters that every trial has of its own, as
            ``model.named_parameters()`` gives them.

    Attributes:
        model: takes the trials' sequences folded into one batch, (trials * batch, ...).
        own: names of the parameters that every trial has of its own.

    Raises:
        ValueError: the model has no parameter of a name, or no name is given.
    """

    def __init__(self, model: SequenceModel, own: Collection[str]) -> None:
        super().__init__()
        parameters = dict(model.named_parameters())
        if unknown := set(own) - parameters.keys():
            raise ValueError(f"the model has no parameters {sorted(unknown)}")
        if not own:
            raise ValueError("trials without parameters of their own are one trial")
        self.own = tuple(name for name in parameters if name in set(own))
        self._fold = Fold()
        self._orders: Tensor | None = None
        replacer = Replacer({id(parameters[name]): name for name in own}, self._fold)
        replacer.replace_children(model)
        self._stacked = replacer.stacked
        self.model = model

    def bind(self, values: Mapping[str, Tensor], orders: Tensor | None = None) -> None:
        """Choose the trials.

        Args:
            values: for each of ``own``, (trials, *shape). They are used as they are: what changes
                them changes the trials, and gradients reach them.
            orders: (trials, seq_length) keys of shuffled tokens, as ``draw_order`` gives them for
                each trial; None where tokens are read in their own order.

        Raises:
            ValueError: a name is missing, or the trials of two parameters are not as many.
        """
        if missing := set(self.own) - values.keys():
            raise ValueError(f"there are no values of {sorted(missing)}")
        counts = {len(values[name]) for name in self.own}
        counts |= set() if orders is None else {len(orders)}
        if len(counts) > 1:
            raise ValueError(f"the numbers of trials differ: {sorted(counts)}")
        for module, names in self._stacked:
            module.bind({local: values[name] for local, name in names.items()})
        self._fold.trials = counts.pop()
        self._orders = orders

    def release(self) -> None:
        """Hold nobody's values until trials are bound again."""
        for module, _ in self._stacked:
            module.bind({})
        self._orders = None

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute each trial's logits at the read tokens, (trials, batch, num_read, num_logits).

        Args:
            tokens: (trials, batch, seq, features) float32, or (trials, batch, seq) int64 ids.
            mask: (trials, batch, seq) bool, False at padding; None where every token is real.
        """
        self._begin(tokens)
        logits: Tensor = self.model(tokens.flatten(0, 1), _flat(mask))
        return self._fold.split(logits)

    def above(self, cut: Cut, held: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute each trial's logits from what lies below a cut.

        Args:
            cut: of ``model``.
            held: (trials, batch, length, features), what ``cut.below`` gives for each trial.
            tokens: as ``forward`` takes them.
            mask: as ``forward`` takes it.
        """
        self._begin(tokens)
        logits = cut.above(held.flatten(0, 1), tokens.flatten(0, 1), _flat(mask))
        return self._fold.split(logits)

    def _begin(self, tokens: Tensor) -> None:
        """Tell the modules how the batch that comes is made of trials."""
        if tokens.shape[0] != self._fold.trials:
            raise ValueError(f"{tokens.shape[0]} trials' tokens for {self._fold.trials} trials")
        self._fold.batch = tokens.shape[1]
        self.model._order = None if self._orders is None else self._fold.spread(self._orders)


def _flat(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.flatten(0, 1)
