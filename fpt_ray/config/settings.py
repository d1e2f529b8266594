"""What one trial trains, and how: the sections that arms and tuned values may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from fpt_ray.config.base import Settings
from fpt_ray.config.models import ModelSettings
from fpt_ray.config.tasks import TaskSettings


class DataSettings(Settings):
    """Where a task's examples come from."""

    mode: Literal["auto", "generated", "materialized", "streaming"] = "auto"
    """How batches, the same in every mode, reach a trial; auto: generated for the bit tasks, else
    materialized where the data fit the object store, else streaming."""
    dir: str | None = None
    """Directory or URI of raw data and prepared shards; null: ~/.cache/fpt_ray/data."""
    cache_features: Literal["auto", "off"] = "auto"
    """auto: what a sample gives below everything that is trained is computed once and kept; off:
    at every step. Results are the same, to rounding."""


class OptimizerSettings(Settings):
    """Adam's constants."""

    name: Literal["adam"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of the gradients, in [0, 1)."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the mean of their squares, in [0, 1)."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator; above 0."""


class TrainingSettings(Settings):
    """How parameters are updated, and when they are evaluated. All budgets are in steps."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Constant rate of the optimizer; above 0."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences in one step."""
    max_steps: int = Field(default=5000, ge=1)
    """Steps of a trial that is not stopped early."""
    eval_every: int = Field(default=250, ge=1)
    """Steps between two evaluations on the validation split."""
    optimizer: OptimizerSettings = OptimizerSettings()
    grad_clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of a trial's gradients, above 0; null does not clip."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Chance that an activation is dropped in training, in [0, 1)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; bf16 is autocast on GPUs."""
    validation_size: int | None = Field(default=None, ge=1)
    """Validation examples; null: the task's default."""
    test_size: int | None = Field(default=None, ge=1)
    """Test examples; null: the task's default."""


class TrialSettings(Settings):
    """Everything that decides what a trial computes, its seed aside."""

    task: TaskSettings
    data: DataSettings = DataSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()

    def compact(self) -> dict[str, Any]:
        """Dump as plain JSON data without fields at their default, but with what names a kind."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        if self.model.name != "fpt":
            data["model"] = {"name": self.model.name, **data.get("model", {})}
        return {**data, "task": {"name": self.task.name, **data["task"]}}

    def with_values(self, values: Mapping[str, Any]) -> TrialSettings:
        """Copy with some settings changed, and validate the result in full.

        Args:
            values: dotted key to value. A key that names a section (``"model"``) replaces it;
                deeper keys then refine what the sections hold.

        Raises:
            pydantic.ValidationError: if a key does not exist or a value does not fit.
        """
        data = self.compact()
        for key in sorted(values, key=lambda key: key.count(".")):
            _set(data, key.split("."), values[key])
        return TrialSettings.model_validate(data)


def _set(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value below ``data``, copying the dictionaries on the way."""
    for part in path[:-1]:
        inner = data.get(part)
        data[part] = dict(inner) if isinstance(inner, dict) else {}
        data = data[part]
    data[path[-1]] = value
