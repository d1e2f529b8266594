"""Count the floating-point operations of an arm's training steps and evaluations.

Only matrix products count, a multiplication and an addition being two operations: everything else
is a small share of the work. A product with a frozen matrix costs its forward pass, and as much
again for the gradient of what comes in, where something trained lies below it; a trained matrix
costs as much once more, for its own gradient.

Where a task's sequences vary in length, all count as the longest. Attention counts as dense, so the
estimate is high for Longformer on sequences longer than its window, and low on shorter ones, which
it pads. Cached features do not count as cached: it is high for arms whose frozen part is computed
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fpt_ray.config import ParameterRole, TrialSettings
from fpt_ray.config.tasks import ListOps, RemoteHomology
from fpt_ray.tasks import generated, images
from fpt_ray.training import Description

TAPE_SIZES = {"fold": 718, "superfamily": 1254, "family": 1272}
TAPE_VALIDATION_SIZE = 736
ARENA_SIZE = 2000
IMAGE_TEST_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Operations:
    """Floating-point operations on one sequence.

    Attributes:
        forward: the logits.
        backward: the gradients of what is trained.
    """

    forward: int
    backward: int

    @property
    def training(self) -> int:
        """Operations on a sequence in a training step."""
        return self.forward + self.backward


@dataclass(frozen=True, slots=True)
class _Product:
    """A matrix product of the forward pass, in the order of computation.

    Attributes:
        operations: of the forward pass, on one sequence.
        rank: where it stands; a trained parameter of a lower rank asks for gradients through it.
        own: how many more of its size the gradient of its own matrix costs: 1 if it is trained.
        through: how many the gradients of what comes in cost: 2 where both factors are activations.
    """

    operations: int
    rank: float
    own: int = 0
    through: int = 1


def count_operations(settings: TrialSettings, described: Description) -> Operations:
    """Count the operations on one sequence of an arm's task.

    Args:
        settings: the arm.
        described: its model in numbers.
    """
    ranks = list(_ranks(described.parameters))
    lowest = min(
        rank
        for rank, role in zip(ranks, described.parameters, strict=True)
        if role.name in described.trained
    )
    products = [*_matrices(settings, described, ranks), *_attentions(described, ranks)]
    return Operations(
        forward=sum(product.operations for product in products),
        backward=sum(
            product.operations * (product.own + product.through * (lowest < product.rank))
            for product in products
        ),
    )


def num_evaluated(settings: TrialSettings) -> tuple[int, int]:
    """Count the sequences of validation and test, without reading any data."""
    validation, test = _published_sizes(settings)
    training = settings.training
    return training.validation_size or validation, training.test_size or test


def _ranks(parameters: tuple[ParameterRole, ...]) -> Iterator[float]:
    """Order parameters as they are computed with; the output layer comes last.

    Within a block families list layer norms before or after what they feed. They count as its
    first part, so that the block in which training begins may be counted a little high.
    """
    starts: dict[int, int] = {}
    for index, role in enumerate(parameters):
        if role.layer is not None:
            starts.setdefault(role.layer, index)
    for index, role in enumerate(parameters):
        if role.group == "output":
            yield float(len(parameters) + index)
        elif role.group == "layer_norm" and role.layer is not None:
            yield starts[role.layer] - 0.5
        else:
            yield float(index)


def _matrices(
    settings: TrialSettings, described: Description, ranks: list[float]
) -> Iterator[_Product]:
    looks_up = described.task.input_kind == "ids" and settings.model.input_layer != "linear"
    for rank, role in zip(ranks, described.parameters, strict=True):
        is_table = looks_up and role == described.parameters[0]
        if _is_matrix(role) and not is_table:
            tokens = described.task.num_read if role.group == "output" else described.seq_length
            yield _Product(2 * role.numel * tokens, rank, own=role.name in described.trained)


def _is_matrix(role: ParameterRole) -> bool:
    in_product = role.group in ("input", "output", "attention", "feed_forward", "recurrent")
    return in_product and role.name.rpartition(".")[2].startswith("weight")


def _attentions(described: Description, ranks: list[float]) -> Iterator[_Product]:
    """Find the products of each layer's attention: scores, and what they choose."""
    last: dict[int, float] = {}
    for rank, role in zip(ranks, described.parameters, strict=True):
        if role.group == "attention" and role.layer is not None and _is_matrix(role):
            last[role.layer] = max(rank, last.get(role.layer, rank))
    operations = 4 * described.seq_length**2 * described.hidden_size
    for rank in last.values():
        yield _Product(operations, rank, through=2)


def _published_sizes(settings: TrialSettings) -> tuple[int, int]:
    task = settings.task
    if isinstance(task, RemoteHomology):
        return TAPE_VALIDATION_SIZE, TAPE_SIZES[task.holdout]
    if isinstance(task, ListOps) and task.origin == "lra":
        return ARENA_SIZE, ARENA_SIZE
    if task.name in ("mnist", "cifar10", "cifar10_lra"):
        return images.VALIDATION_SIZE, IMAGE_TEST_SIZE
    return generated.VALIDATION_SIZE, generated.TEST_SIZE
