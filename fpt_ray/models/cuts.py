"""Points of a model below which nothing is trained, so that a sequence gives the same there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fpt_ray.models.sequence_model import SequenceModel


class Cut(Protocol):
    """A point of a model, and the two parts that the model falls into there."""

    @property
    def place(self) -> str:
        """Where it is, equal for the same cut of models of one architecture."""
        ...

    def moved(self, model: SequenceModel) -> Cut:
        """Make the same cut of another model of the same architecture."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """What the longest sequence gives at the cut: tokens, and features of a token."""
        ...

    def length(self, tokens: Tensor) -> int:
        """Count the tokens at the cut of (batch, seq) ids or (batch, seq, features)."""
        ...

    def below(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute what the part above the cut reads, (batch, length, features)."""
        ...

    def above(self, held: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the logits from what ``below`` gave for the same sequences.

        Args:
            held: (batch, length, features); what stands at padding is of no account.
            tokens: as the model takes them.
            mask: as the model takes it.
        """
        ...


def find_cut(model: SequenceModel, tokens: Tensor) -> Cut | None:
    """Find the highest cut of a model below which no parameter gets updates.

    That is what the output layer reads, for any body; else what enters a block, or what leaves
    the last one, where each block takes one tensor of hidden states from the block before and
    gives one. T5's blocks hand a bias on beside and Longformer's take filled sequences: their
    models are cut at the output layer only. A pass through the model shows all this, so that no
    family needs to declare it.

    Args:
        model: materialised.
        tokens: one sequence of the task's full length, of any content, on the model's device.

    Returns:
        None where something is trained below every cut.
    """
    if any(parameter.requires_grad for parameter in model.input_layer.parameters()):
        return None
    path, blocks = _find_blocks(model.backbone)
    features, passes = _watch(model, tokens, blocks)
    if not features.requires_grad:
        return OutputCut(model, features.shape)
    hidden = _highest(passes, len(blocks), tokens.shape[:2])
    return BlockCut(model, path, len(hidden), hidden[-1].shape) if hidden else None


class OutputCut:
    """The cut between a model's body and its output layer.

    Args:
        model: the model.
        shape: (sequences, tokens that are read, features).
    """

    def __init__(self, model: SequenceModel, shape: torch.Size) -> None:
        self._model = model
        self._shape = shape

    @property
    def place(self) -> str:
        """Where it is: before the output layer."""
        return "output_layer"

    def moved(self, model: SequenceModel) -> OutputCut:
        """Make the same cut of another model of the same architecture."""
        return OutputCut(model, self._shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens that are read, and their features."""
        return self._shape[1], self._shape[2]

    def length(self, tokens: Tensor) -> int:
        """Count the tokens that are read."""
        return self._shape[1]

    def below(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute what the output layer reads."""
        return self._model.features(tokens, mask)

    def above(self, held: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the logits, as ``Cut.above`` says."""
        logits: Tensor = self._model.output_layer(held)
        return logits


class BlockCut:
    """The cut behind a model's first blocks.

    Either part runs as the model's own forward pass, for which the list of blocks is exchanged:
    for the blocks below, or for those above behind a module that gives what is held. What lies
    outside the blocks, such as masks, is computed each time; it costs little beside them.

    Args:
        model: the model.
        path: of the list of blocks in its body.
        depth: blocks below the cut, at least 1.
        shape: (sequences, tokens of the longest one, features).
    """

    def __init__(self, model: SequenceModel, path: str, depth: int, shape: torch.Size) -> None:
        parent, _, self._leaf = path.rpartition(".")
        self._model = model
        self._parent = model.backbone.get_submodule(parent)
        blocks = list(model.backbone.get_submodule(path).children())
        self._last = _Noted(blocks[depth - 1])
        self._first = _Given()
        self._lower = nn.ModuleList([*blocks[: depth - 1], self._last])
        self._upper = nn.ModuleList([self._first, *blocks[depth:]])
        self._shape = shape
        self._path = path
        self.depth = depth

    @property
    def place(self) -> str:
        """Where it is: path of the list of blocks, and how many of them are below."""
        return f"{self._path}[:{self.depth}]"

    def moved(self, model: SequenceModel) -> BlockCut:
        """Make the same cut of another model of the same architecture."""
        return BlockCut(model, self._path, self.depth, self._shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens of the longest sequence, and their features."""
        return self._shape[1], self._shape[2]

    def length(self, tokens: Tensor) -> int:
        """Count the tokens: all."""
        return tokens.shape[1]

    def below(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states behind the blocks below."""
        with self._blocks(self._lower):
            self._model.features(tokens, mask)
        return self._last.take()

    def above(self, held: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the logits, as ``Cut.above`` says."""
        self._first.hidden = held
        try:
            with self._blocks(self._upper):
                logits: Tensor = self._model(tokens, mask)
        finally:
            self._first.hidden = None
        return logits

    @contextmanager
    def _blocks(self, blocks: nn.ModuleList) -> Iterator[None]:
        whole = getattr(self._parent, self._leaf)
        setattr(self._parent, self._leaf, blocks)
        try:
            yield
        finally:
            setattr(self._parent, self._leaf, whole)


class _Noted(nn.Module):
    """A block whose hidden states are noted."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block = block
        self._hidden: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        hidden: Tensor = self._block(*args, **kwargs)
        self._hidden = hidden
        return hidden

    def take(self) -> Tensor:
        """Hand over the hidden states that were noted last."""
        hidden, self._hidden = self._hidden, None
        assert hidden is not None
        return hidden


class _Given(nn.Module):
    """Gives hidden states that are there already, in place of the blocks that computed them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | None:
        del args, kwargs
        return self.hidden


def _find_blocks(body: nn.Module) -> tuple[str, list[nn.Module]]:
    """Find a body's blocks, its outermost list of modules; none where it has no list."""
    for path, module in body.named_modules():
        if isinstance(module, nn.ModuleList):
            return path, list(module)
    return "", []


def _watch(
    model: SequenceModel, tokens: Tensor, blocks: list[nn.Module]
) -> tuple[Tensor, list[tuple[object, object]]]:
    """Compute a model's features, and note what each block takes first and gives."""
    passes: list[tuple[object, object]] = []

    def note(_: nn.Module, args: tuple[object, ...], given: object) -> None:
        passes.append((args[0] if args else None, given))

    hooks = [block.register_forward_hook(note) for block in blocks]
    was_training = model.training
    try:
        with torch.enable_grad():
            return model.eval().features(tokens), passes
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _highest(
    passes: list[tuple[object, object]], num_blocks: int, shape: torch.Size
) -> list[Tensor]:
    """List what each block below the highest cut between blocks gives; empty without a cut."""
    chained = all(before[1] is after[0] for before, after in pairwise(passes))
    if not chained or len(passes) != num_blocks:
        return []
    below = []
    for _, given in passes:
        if not isinstance(given, Tensor) or given.shape[:-1] != shape or given.requires_grad:
            break
        below.append(given)
    return below
