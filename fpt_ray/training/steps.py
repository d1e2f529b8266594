"""Optimizer updates: forward, backward, clipping and Adam, with reproducible dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel
from fpt_ray.seeding import derive_seed
from fpt_ray.tasks import Batch
from fpt_ray.training.course import MOMENTS
from fpt_ray.training.divergence import Watch
from fpt_ray.training.features import Store, compute_logits
from fpt_ray.training.feed import Feed
from fpt_ray.training.results import Slope
from fpt_ray.training.scoring import cross_entropy


@dataclass(frozen=True, slots=True)
class Recipe:
    """How trained parameters are updated.

    Attributes:
        learning_rate: constant rate of Adam.
        batch_size: sequences in a step.
        betas: decay of Adam's two moments, each in [0, 1).
        epsilon: added to Adam's denominator.
        grad_clip_norm: largest norm of all gradients together; None does not clip.
        precision: ``bf16`` computes the forward pass under autocast.
        cache_features: keep activations that training does not change; never those of bf16, whose
            rounding shows when sequences meet in other batches.
    """

    learning_rate: float = 1e-3
    batch_size: int = 16
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    grad_clip_norm: float | None = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    cache_features: bool = True


class Stepper:
    """Update a model's trained parameters, one batch at a time.

    Args:
        model: materialised on ``device``.
        feed: where batches come from.
        recipe: how to update.
        seed: the trial's seed; draws dropout.
        device: where to compute.
        store: of the training split, where activations are kept.
    """

    def __init__(
        self,
        model: SequenceModel,
        feed: Feed,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        store: Store | None = None,
    ) -> None:
        self._model = model
        self._feed = feed
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._store = store
        named = model.named_parameters()
        self.trained: dict[str, Tensor] = {n: p for n, p in named if p.requires_grad}
        self._parameters = list(self.trained.values())
        self._optimizer = torch.optim.Adam(
            self._parameters,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            fused=True,
        )

    def run(self, first_step: int, num_steps: int) -> Watch:
        """Make updates until there were ``num_steps``, or one is seen to have diverged.

        Args:
            first_step: updates made before, which determines batches and dropout.
            num_steps: updates to make.
        """
        self._model.train()
        watch = Watch(num_steps, self._device)
        feeding = closing(self._feed.run(first_step, num_steps))
        with own_randomness(self._device) as reseed, feeding as batches:
            for step, batch in enumerate(batches, first_step):
                reseed(derive_seed(self._seed, "dropout", step))
                if watch.record(*self._backward(batch)):
                    break
                self._optimizer.step()
        return watch

    def moments(self) -> dict[str, Tensor]:
        """Read Adam's state, as ``MOMENT/PARAMETER``; empty before the first update."""
        return {
            f"{moment}/{name}": self._optimizer.state[parameter][moment]
            for name, parameter in self.trained.items()
            if parameter in self._optimizer.state
            for moment in MOMENTS
        }

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Replace Adam's state; an empty mapping stands for no update yet."""
        self._optimizer.state.clear()
        for name, parameter in self.trained.items() if moments else ():
            self._optimizer.state[parameter] = {
                moment: moments[f"{moment}/{name}"].to(self._device, copy=True)
                for moment in MOMENTS
            }

    def slope(self, step: int) -> Slope:
        """Compute the loss and the gradients of a step, before clipping, and make no update."""
        self._model.train()
        with own_randomness(self._device) as reseed, closing(self._feed.run(step, 1)) as batches:
            reseed(derive_seed(self._seed, "dropout", step))
            loss = self._compute(next(batches))
        gradients = {
            name: parameter.grad
            for name, parameter in self.trained.items()
            if parameter.grad is not None
        }
        self._optimizer.zero_grad(set_to_none=True)
        return Slope(loss.item(), gradients)

    def _backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute a batch's gradients and clip them; return the loss and the norm before that."""
        loss = self._compute(batch)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._recipe.grad_clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self._recipe.grad_clip_norm, norm
            )
        return loss, norm

    def _compute(self, batch: Batch) -> Tensor:
        """Compute the gradients of one batch; return the loss."""
        bf16 = self._recipe.precision == "bf16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = compute_logits(self._model, batch, self._store)
        loss = cross_entropy(logits, batch.targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


@contextmanager
def own_randomness(device: torch.device) -> Iterator[Callable[[int], object]]:
    """Lend the global generators, from which dropout draws, and restore them afterwards.

    Yields:
        A function that seeds the generator of the device.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        with torch.random.fork_rng(devices=[index]):
            yield torch.cuda.default_generators[index].manual_seed
    else:
        with torch.random.fork_rng(devices=[]):
            yield torch.default_generator.manual_seed
