"""From a trial's settings to its trainer: the only place where settings become arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fpt_ray.config import (
    GROUPS,
    FPTSettings,
    ParameterRole,
    TrialSettings,
    input_mistakes,
    read_mistakes,
    resolve,
)
from fpt_ray.errors import ModelError
from fpt_ray.models import (
    Body,
    Ends,
    SequenceModel,
    attention_for,
    draw_ends,
    materialise,
    parameter_roles,
)
from fpt_ray.tasks import Task, TaskSpec, build_task
from fpt_ray.training.bodies import find_body
from fpt_ray.training.course import Plan
from fpt_ray.training.results import Metric
from fpt_ray.training.steps import Recipe
from fpt_ray.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Description:
    """A trial's model in numbers, known without its weights.

    Attributes:
        trained_parameters: numbers that get updates.
        total_parameters: numbers of the whole model, without the unused token embeddings.
        by_group: (trained, total) numbers of each group that the model has.
        seq_length: tokens in a sequence of the task.
        num_positions: the longest sequence that the model takes; None where there is no limit.
        trained: names of the parameters that get updates.
        parameters: the role of each parameter, in the order in which modules are built.
        hidden_size: features of a token between the ends.
        task: shapes of the task.
    """

    trained_parameters: int
    total_parameters: int
    by_group: dict[str, tuple[int, int]]
    seq_length: int
    num_positions: int | None
    trained: frozenset[str]
    parameters: tuple[ParameterRole, ...]
    hidden_size: int
    task: TaskSpec


def build_trainer(
    settings: TrialSettings,
    seed: int,
    device: str = "cpu",
    metric: Metric = "validation_accuracy",
    task: Task | None = None,
) -> Trainer:
    """Build a trial that is ready to train.

    Args:
        settings: everything that decides what it computes.
        seed: draws the ends, random backbones, batches and dropout.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        metric: by which its best parameters are chosen; the direction follows from it.
        task: the settings' task where someone else delivers its data; None reads this machine's
            files.

    Raises:
        ModelError: the model cannot be built, or its weights are missing.
        DataError: the task's raw data are missing.
    """
    place = torch.device(device)
    task = task or build_task(settings)
    task.num_examples("validation")
    model, frozen = build_model(settings, seed, task, place)
    plan = Plan(seed, settings.training.max_steps, metric)
    return Trainer(model, task, build_recipe(settings), plan, frozen, place)


def build_model(
    settings: TrialSettings, seed: int, task: Task, device: torch.device
) -> tuple[SequenceModel, str]:
    """Build a trial's model as it is before training.

    Args:
        settings: everything that decides what it computes.
        seed: draws the ends, random bodies and the order of shuffled tokens.
        task: the settings' task, of which no data are read.
        device: where the model shall be.

    Returns:
        The model, and the fingerprint of its frozen parameters.

    Raises:
        ModelError: the model cannot be built, or its weights are missing.
    """
    body = find_body(settings, task)
    model, roles = build_blueprint(settings, task, body, attention_for(device))
    trained = resolve(settings.model.trained, roles)
    draw_ends(model.input_layer, model.output_layer, settings.model.orthogonal_gain, seed)
    if settings.model.token_order == "shuffled":
        model.shuffle(seed, task.spec.seq_length)
    return model, materialise(model, body, trained, seed, device)


def describe(settings: TrialSettings) -> Description:
    """Count a trial's parameters on the meta device, without reading weights or data.

    Raises:
        ModelError: the model cannot be built as asked.
    """
    task = build_task(settings)
    body = find_body(settings, task, need_weights=False)
    _, roles = build_blueprint(settings, task, body, "eager")
    trained = resolve(settings.model.trained, roles)
    by_group = {
        group: (_count(r for r in members if r.name in trained), _count(members))
        for group in GROUPS
        if (members := [role for role in roles if role.group == group])
    }
    return Description(
        trained_parameters=sum(counts[0] for counts in by_group.values()),
        total_parameters=sum(counts[1] for counts in by_group.values()),
        by_group=by_group,
        seq_length=task.spec.seq_length,
        num_positions=body.num_positions,
        trained=trained,
        parameters=roles,
        hidden_size=body.hidden_size,
        task=task.spec,
    )


def fingerprints(settings: TrialSettings) -> dict[str, str]:
    """Identify the weights and data that a trial reads; cached while the files do not change.

    Returns:
        ``backbone``: architecture, and weights where no seed draws them; ``data``: version of
        the generator, or hash of the source files.

    Raises:
        ModelError: the backbone or its weights are missing.
        DataError: the task's raw data are missing.
    """
    task = build_task(settings)
    return {"backbone": find_body(settings, task).fingerprint(), "data": task.fingerprint()}


def build_blueprint(
    settings: TrialSettings, task: Task, body: Body, attention: str
) -> tuple[SequenceModel, tuple[ParameterRole, ...]]:
    """Build the model on the meta device and name the role of each of its parameters."""
    length, model = task.spec.seq_length, settings.model
    if body.num_positions is not None and length > body.num_positions:
        raise ModelError(
            f"sequences of {length} tokens are longer than the {body.num_positions} positions of"
            f" {model.backbone if isinstance(model, FPTSettings) else model.name}",
            where="model.extend_positions",
            fix=f"extend_positions: {length}",
        )
    _check_ends(settings, task, body)
    built = SequenceModel(body, _ends(settings, task), settings.training.dropout, attention)
    return built, parameter_roles(built, body)


def _check_ends(settings: TrialSettings, task: Task, body: Body) -> None:
    spec, model = task.spec, settings.model
    mistakes = (
        *input_mistakes(model, spec.input_kind, body.takes_ids),
        *read_mistakes(model, spec.num_read, body.causal),
    )
    for mistake in mistakes:
        raise ModelError(mistake.what, ".".join(map(str, mistake.path)), mistake.fix)


def _ends(settings: TrialSettings, task: Task) -> Ends:
    return Ends(
        input_kind=task.spec.input_kind,
        input_size=task.spec.input_size,
        num_read=task.spec.num_read,
        num_logits=task.spec.num_logits,
        input_mlp=settings.model.input_mlp,
        output_mlp=settings.model.output_mlp,
        input_layer=settings.model.input_layer,
        read=settings.model.read,
    )


def build_recipe(settings: TrialSettings) -> Recipe:
    """Collect how a trial's parameters are updated."""
    training = settings.training
    return Recipe(
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        betas=(training.optimizer.beta1, training.optimizer.beta2),
        epsilon=training.optimizer.epsilon,
        grad_clip_norm=training.grad_clip_norm,
        precision=training.precision,
        cache_features=settings.data.cache_features == "auto",
    )


def _count(roles: Iterable[ParameterRole]) -> int:
    return sum(role.numel for role in roles)
