"""From a trial's settings to a trial that can join packs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from fpt_ray.config import TrialSettings, resolve
from fpt_ray.models import Body, SequenceModel, attention_for, draw_ends, materialise
from fpt_ray.models.cuts import Cut, find_cut
from fpt_ray.tasks import Task, build_task
from fpt_ray.training.bodies import find_body
from fpt_ray.training.build import build_blueprint, build_recipe
from fpt_ray.training.course import Plan
from fpt_ray.training.features import Stores, example
from fpt_ray.training.pack.key import (
    PackKey,
    describe_model,
    describe_task,
    describe_training,
    describe_weights,
    heavy,
    kept_in,
    place_of,
)
from fpt_ray.training.pack.numbers import Numbers
from fpt_ray.training.pack.shelf import FrozenWeights, Shelf
from fpt_ray.training.pack.trial import PackedTrial, Parts, Work
from fpt_ray.training.results import Metric


def prepare_trial(
    settings: TrialSettings,
    seed: int,
    device: str = "cpu",
    metric: Metric = "validation_accuracy",
    task: Task | None = None,
    shelf: Shelf | None = None,
) -> PackedTrial:
    """Prepare a trial that is ready to join a pack.

    Args:
        settings: everything that decides what it computes.
        seed: draws the ends, random backbones, batches and dropout.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        metric: by which its best parameters are chosen; the direction follows from it.
        task: the settings' task where someone else delivers its data; None reads this machine's
            files.
        shelf: what it shares with other trials on the device; None where it shares nothing.

    Raises:
        ModelError: the model cannot be built, or its weights are missing.
        DataError: the task's raw data are missing.
    """
    task = task or build_task(settings)
    task.num_examples("validation")
    work = Work(task, build_recipe(settings), Plan(seed, settings.training.max_steps, metric))
    return _Preparation(settings, work, torch.device(device)).finish(shelf or Shelf())


class _Preparation:
    """A trial's model, as far as it is needed to find out what the trial shares with others."""

    def __init__(self, settings: TrialSettings, work: Work, device: torch.device) -> None:
        self.settings = settings
        self.work = work
        self.device = device
        self.seed = work.plan.seed
        self.body = find_body(settings, work.task)
        self.model, self.roles = build_blueprint(
            settings, work.task, self.body, attention_for(device)
        )
        self.trained = resolve(settings.model.trained, self.roles)
        self.frozen = self._materialise()

    def finish(self, shelf: Shelf) -> PackedTrial:
        """Share what can be shared, and take the trial's own numbers out of the model."""
        settings, task = self.settings, self.work.task
        model_text = describe_model(settings)
        weights_text = self._describe_weights()
        # What is trained stays as it was drawn, also where the body that is lent is another's.
        drawn = dict(self.model.named_parameters())
        weights = shelf.weights((model_text, weights_text), self.model)
        weights.lend(self.model)
        cut = find_cut(self.model, example(task.spec, self.device))
        task_text = describe_task(settings, task)
        stores = self._stores(shelf, (model_text, task_text), cut)
        key = PackKey(
            task=task_text,
            weights=weights_text,
            model=model_text,
            training=describe_training(settings),
            trained=heavy(self.roles, self.trained),
            cut=place_of(cut),
            kept=kept_in(stores),
        )
        parts = self._parts(weights, cut, stores)
        return PackedTrial(key, self.work, parts, self._numbers(parts, drawn))

    def _materialise(self) -> str:
        settings, model = self.settings, self.model
        gain = settings.model.orthogonal_gain
        draw_ends(model.input_layer, model.output_layer, gain, self.seed)
        if settings.model.token_order == "shuffled":
            model.shuffle(self.seed, self.work.task.spec.seq_length)
        return materialise(model, self.body, self.trained, self.seed, self.device, copied=False)

    def _describe_weights(self) -> str:
        names = (name for name, _ in self.model.backbone.named_parameters(prefix="backbone"))
        return describe_weights(self.body, self.seed, names, self.trained)

    def _stores(self, shelf: Shelf, texts: tuple[str, str], cut: Cut | None) -> Stores:
        recipe, plan = self.work.recipe, self.work.plan
        if cut is None or not recipe.cache_features or recipe.precision == "bf16":
            return Stores()
        # An order of tokens follows from the seed, and is no parameter.
        order = self.seed if self.model._order is not None else None
        num_trained_on = plan.max_steps * recipe.batch_size
        identity = (texts, self.frozen, order)
        return shelf.stores(identity, self.model, cut, self.work.task, num_trained_on)

    def _parts(self, weights: FrozenWeights, cut: Cut | None, stores: Stores) -> Parts:
        shapes = {name: value.shape for name, value in self.model.named_parameters()}
        blueprint = partial(
            _rebuild, self.settings, self.work.task, self.body, weights, self.device
        )
        return Parts(
            device=self.device,
            shapes=shapes,
            trained=self.trained,
            weights=weights,
            frozen=self.frozen,
            order=self.model._order,
            cut=None if cut is None else cut.moved(weights.model),
            stores=stores,
            blueprint=blueprint,
        )

    @torch.no_grad()
    def _numbers(self, parts: Parts, drawn: Mapping[str, Tensor]) -> Numbers:
        numbers = Numbers.zeros(parts.layout(), self.device)
        for name in parts.own:
            numbers.value(name).copy_(drawn[name])
        return numbers


def _rebuild(
    settings: TrialSettings,
    task: Task,
    body: Body,
    weights: FrozenWeights,
    device: torch.device,
) -> SequenceModel:
    """Build a model of shared weights, whose ends have no numbers yet."""
    model, _ = build_blueprint(settings, task, body, attention_for(device))
    weights.lend(model)
    model.input_layer.to_empty(device=device)
    model.output_layer.to_empty(device=device)
    model.to(device)
    return model.requires_grad_(False)
