"""Where a finished trial's transformer looks: attention averaged over heads and sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from fpt_ray.config import BitMemory, BitXor, FPTSettings, TrialSettings
from fpt_ray.errors import CheckpointError, ModelError, RunDirectoryError
from fpt_ray.models import SequenceModel
from fpt_ray.records import AttentionMaps, Segment, SweepRecord, TrialRecord
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import Task, build_task
from fpt_ray.training.blobs import check_tensors, unpack
from fpt_ray.training.build import build_model

_PARAMETER = "parameter/"
"""How ``best.safetensors`` names a trained parameter, before the parameter's own name."""


def attention_maps(
    run: RunDirectory, record: SweepRecord, arm: str, num_samples: int
) -> AttentionMaps:
    """Compute the attention maps of an arm's best finished finalist, on the CPU.

    Validation is read, so that the test split stays read once.

    Args:
        run: the run directory.
        record: what it holds.
        arm: whose finalist.
        num_samples: neighbouring validation sequences to average over; those whose length is not
            that of the first are left out.

    Raises:
        ModelError: the arm has no attention, or its backbone or weights are missing here.
        DataError: the task's raw data are missing here.
        RunDirectoryError: no finalist has finished, or its best parameters are missing.
        CheckpointError: its best parameters are damaged, or do not fit the weights found here.
    """
    trial = _best_finalist(run, record, arm)
    settings = TrialSettings.model_validate(trial.settings)
    if not isinstance(settings.model, FPTSettings):
        raise ModelError(
            f"arm {arm} has no attention: its model is {settings.model.name}",
            fix="attention maps are of arms whose model is fpt",
        )
    task = build_task(settings)
    samples = _samples(task, num_samples)
    model, frozen = build_model(settings, trial.seed, task, torch.device("cpu"))
    _load_best(run, trial, model, frozen)
    weights = mean_attention(model, samples)
    num_read, length = task.spec.num_read, samples[0].shape[1]
    is_shuffled = settings.model.token_order == "shuffled"
    return AttentionMaps(
        arm=arm,
        trial_id=trial.trial_id,
        step=trial.best.step if trial.best is not None else trial.steps,
        num_samples=len(samples),
        weights=weights.numpy().astype(np.float32),
        segments=_segments(settings, length, num_read, is_shuffled),
        read=_read_positions(settings.model.read, length, num_read),
        is_shuffled=is_shuffled,
    )


@torch.inference_mode()
def mean_attention(model: SequenceModel, samples: list[Tensor]) -> Tensor:
    """Average attention weights over heads and sequences.

    One sequence is computed at a time, because the weights of a long one fill memory.

    Args:
        model: with eager attention; it is left in evaluation mode.
        samples: (1, seq, features) or (1, seq) ids each, all of one length.

    Returns:
        (layers, seq, seq) float64, attending token by attended token; rows sum to 1.

    Raises:
        ModelError: its attention modules do not return their weights.
    """
    model.eval()
    total: Tensor | None = None
    for tokens in samples:
        with _recorded(model.backbone) as layers:
            model.features(tokens)
        maps = [_full(module, weights, tokens.shape[1]) for module, weights in layers]
        if not maps:
            raise ModelError(
                "its backbone has no module that returns attention weights",
                fix="attention maps are of arms whose backbone is a transformer",
            )
        total = torch.stack(maps) if total is None else total + torch.stack(maps)
    if total is None:
        raise ValueError("there is no sequence to average over")
    return total / len(samples)


@contextmanager
def _recorded(backbone: nn.Module) -> Iterator[list[tuple[nn.Module, Any]]]:
    """Collect what attention modules return beside their output, layer by layer."""
    layers: list[tuple[nn.Module, Any]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        layers.append((module, output[-1] if isinstance(output, tuple) else None))

    handles = []
    for module in _attention_modules(backbone):
        handles.append(module.register_forward_hook(keep))
        if isinstance(module, LongformerSelfAttention):
            handles.append(module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def _ask_for_weights(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    return args, {**kwargs, "output_attentions": True}


def _attention_modules(backbone: nn.Module) -> list[nn.Module]:
    """List the innermost modules that transformers calls attention."""

    def is_attention(module: nn.Module) -> bool:
        return type(module).__name__.endswith("Attention")

    return [
        module
        for module in backbone.modules()
        if is_attention(module)
        and not any(is_attention(inner) for inner in module.modules() if inner is not module)
    ]


def _full(module: nn.Module, weights: Any, length: int) -> Tensor:
    """Average a layer's weights over heads: (seq, seq) float64.

    Raises:
        ModelError: these are no attention weights of one sequence of this length.
    """
    if isinstance(module, LongformerSelfAttention) and isinstance(weights, Tensor):
        return _spread(weights[0].double().mean(dim=1), module.one_sided_attn_window_size, length)
    shape = tuple(weights.shape) if isinstance(weights, Tensor) else ()
    if len(shape) != 4 or shape[0] != 1 or shape[2:] != (length, length):
        raise ModelError(
            f"{type(module).__name__} returns no attention weights of {length} tokens",
            fix="attention maps need transformers' eager attention",
        )
    mean: Tensor = weights[0].double().mean(dim=0)
    return mean


def _spread(local: Tensor, side: int, length: int) -> Tensor:
    """Place the weights of a window in the whole map.

    Args:
        local: (padded seq, 2 * side + 1); column ``side`` is the token itself.
        side: tokens that are seen to either side.
        length: tokens of the sequence, without padding.
    """
    if local.shape[1] != 2 * side + 1:
        raise ModelError(
            "global attention cannot be drawn", fix="attention maps are of local attention"
        )
    whole = torch.zeros(length, length, dtype=local.dtype)
    for offset in range(-side, side + 1):
        rows = torch.arange(max(0, -offset), min(length, length - offset))
        whole[rows, rows + offset] = local[rows, side + offset]
    return whole


def _best_finalist(run: RunDirectory, record: SweepRecord, arm: str) -> TrialRecord:
    """Choose by validation, as configurations are chosen.

    Raises:
        RunDirectoryError: none has finished.
    """
    finalists = record.current_finalists(arm)
    finished = [t for t in finalists if t.status == "finished" and t.best is not None]
    if not finished:
        raise RunDirectoryError(
            f"no finalist of arm {arm} has finished",
            where=run.uri,
            fix="run the sweep to its end: the same command goes on with it",
        )

    def rank(trial: TrialRecord) -> tuple[float, float, int]:
        assert trial.best is not None
        value = trial.best.value(record.metric, record.direction)
        return -value, -trial.best.value("validation_loss", "min"), trial.seed_index

    return min(finished, key=rank)


@torch.no_grad()
def _load_best(run: RunDirectory, trial: TrialRecord, model: SequenceModel, frozen: str) -> None:
    """Give a model that was just built the parameters of a trial's best evaluation.

    Raises:
        RunDirectoryError: they are missing.
        CheckpointError: they are damaged, or belong to other frozen weights.
    """
    name = run.best_of(trial.trial_id)
    data = run.read_bytes(name)
    if data is None:
        raise RunDirectoryError(
            f"the best parameters of trial {trial.trial_id} are missing",
            where=run.locate(name),
            fix="restore the file from a backup",
        )
    blob = unpack(data, "best")
    if blob.document["frozen"] != frozen:
        raise CheckpointError(
            "the frozen weights found here are not those that the trial was trained on",
            where=run.locate(name),
            fix="restore the backbone that it was trained with",
        )
    trained = {n: value for n, value in model.named_parameters() if value.requires_grad}
    check_tensors(blob.tensors, {_PARAMETER + n: value for n, value in trained.items()})
    for parameter_name, parameter in trained.items():
        parameter.copy_(blob.tensors[_PARAMETER + parameter_name])


def _samples(task: Task, num_samples: int) -> list[Tensor]:
    """Take sequences from the middle of validation, without padding; all as long as the first.

    Validation is in the order of lengths where they vary, so those in the middle are typical.

    Raises:
        DataError: the task's raw data are missing.
    """
    available = task.num_examples("validation") or num_samples
    num_samples = min(num_samples, available)
    batch = task.batch("validation", 0, available // num_samples // 2, num_samples)
    sequences = [batch.tokens[index : index + 1] for index in range(len(batch.tokens))]
    if batch.mask is not None:
        lengths = batch.mask.sum(dim=1).tolist()
        sequences = [each[:, :length] for each, length in zip(sequences, lengths, strict=True)]
    return [each for each in sequences if each.shape[1] == sequences[0].shape[1]]


def _segments(
    settings: TrialSettings, length: int, num_read: int, is_shuffled: bool
) -> tuple[Segment, ...]:
    """Part a task's sequence into what belongs together."""
    task = settings.task
    if is_shuffled and length > num_read:
        return Segment("shuffled tokens", length - num_read), Segment("last tokens", num_read)
    if isinstance(task, BitXor):
        return tuple(Segment(f"string {i + 1}", task.length) for i in range(task.patterns))
    if isinstance(task, BitMemory):
        size = task.length // task.token_bits
        strings = tuple(Segment(f"string {i + 1}", size) for i in range(task.patterns))
        return (*strings, Segment("masked copy", size))
    if hasattr(task, "patch_size"):
        side = math.isqrt(length)
        return tuple(Segment(f"row {i + 1}", side) for i in range(side))
    return (Segment("tokens", length),)


def _read_positions(read: str, length: int, num_read: int) -> tuple[int, ...]:
    if read == "mean":
        return tuple(range(length))
    return tuple(range(num_read) if read == "first" else range(length - num_read, length))
