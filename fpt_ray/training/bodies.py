"""From a trial's settings to what its model has between the ends."""

from __future__ import annotations

from fpt_ray.config import CheckpointInit, LSTMSettings, NoBackboneSettings, TrialSettings
from fpt_ray.models import BackboneChoice, Body, LSTMBody, NoBackbone, find_backbone
from fpt_ray.tasks import Task
from fpt_ray.training.donors import find_donated


def find_body(settings: TrialSettings, task: Task, need_weights: bool = True) -> Body:
    """Find the body that a trial asks for.

    Args:
        settings: everything that decides what it computes.
        task: the task that it is for.
        need_weights: False where only shapes matter, so that pretrained weights may be missing.

    Raises:
        ModelError: it cannot be found, or its parts do not fit together.
    """
    model = settings.model
    if isinstance(model, NoBackboneSettings):
        return NoBackbone(model.hidden_size)
    if isinstance(model, LSTMSettings):
        return _lstm(model, task)
    if isinstance(model.init, CheckpointInit):
        return find_donated(model, model.init, need_weights)
    choice = BackboneChoice(model.backbone, model.init, model.num_layers, model.extend_positions)
    return find_backbone(choice, need_weights)


def _lstm(model: LSTMSettings, task: Task) -> LSTMBody:
    num_positions = task.spec.seq_length if model.positions else None
    return LSTMBody(
        model.hidden_size, model.num_layers, model.layer_norm, model.residual, num_positions
    )
