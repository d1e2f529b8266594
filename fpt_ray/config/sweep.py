"""The sweep file as a whole."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from fpt_ray.config.arms import Arm, build_arm, combinations
from fpt_ray.config.base import Settings, refusal
from fpt_ray.config.models import ModelSettings, PositiveInt
from fpt_ray.config.names import check_axes, check_directory_name
from fpt_ray.config.settings import DataSettings, TrainingSettings, TrialSettings
from fpt_ray.config.tasks import TaskSettings
from fpt_ray.config.tune import Tune


class Final(Settings):
    """The last stage: each arm's best configuration, full length, new seeds, then one test."""

    seeds: int = Field(default=5, ge=1)
    """Trials of each arm's best configuration."""


def _check_pack(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Replace the two errors of a union by one that a reader understands."""
    try:
        return handler(value)
    except ValidationError as error:
        what = f"pack must be auto or a whole number from 1 on, not {value!r}"
        raise refusal((), what, "pack: auto") from error


class Resources(Settings):
    """The devices that a sweep may use, and how trials share them."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: GPUs if the cluster has any."""
    pack: Annotated[Literal["auto"] | PositiveInt, WrapValidator(_check_pack)] = "auto"
    """Trials that train together on one device: auto, or a number from 1 on."""
    max_devices: int | None = Field(default=None, ge=1)
    """Most devices at a time; null: all there are."""


class Failures(Settings):
    """What happens to a trial that raises or whose process dies."""

    max_failures: int = Field(default=3, ge=0)
    """How often a trial is tried again before it counts as failed."""


class Published(Settings):
    """Published numbers to print beside ours."""

    table: str = Field(min_length=1)
    """The name of a table in config/published.yaml."""
    arms: dict[str, str] = Field(min_length=1)
    """Our arm's full name, as in ``+positions/pretrained``, to that table's row."""


class Sweep(Settings):
    """One sweep file: the arms to compare, what to tune in each, how the winners are measured."""

    name: Annotated[str, AfterValidator(check_directory_name)]
    """Directory of the run below ``storage``; default: the file's stem."""
    seed: int = Field(default=0, ge=0)
    """The root of every seed of the sweep."""
    task: TaskSettings
    data: DataSettings = DataSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    compare: Annotated[dict[str, dict[str, dict[str, Any]]], AfterValidator(check_axes)] = Field(
        default_factory=dict
    )
    """Axis to label to settings, dotted key to value; the arms are the product of the axes."""
    reference: dict[str, str] | None = None
    """Axis to label of the arm that the others are tested against; null: the first arm."""
    tune: Tune | None = None
    """null: every arm goes straight to its final stage as configured."""
    final: Final = Final()
    resources: Resources = Resources()
    failures: Failures = Failures()
    storage: str = Field(default="runs", min_length=1)
    """Directory or URI (s3://, gs://) below which the run directory lies."""
    loggers: tuple[Literal["tensorboard"], ...] = Field(default=("tensorboard",), strict=False)
    """Where evaluations are copied to while they come in."""
    published: tuple[Published, ...] = Field(default=(), strict=False)

    @property
    def base(self) -> TrialSettings:
        """What every arm starts from."""
        return TrialSettings(
            task=self.task, data=self.data, model=self.model, training=self.training
        )

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All arms, in file order, the last axis changing fastest."""
        return tuple(
            build_arm(self.base, self.compare, labels) for labels in combinations(self.compare)
        )

    @property
    def reference_arm(self) -> Arm:
        """The arm that the others are tested against."""
        reference = self.reference or self.arms[0].labels
        return next(arm for arm in self.arms if arm.labels == reference)

    @property
    def num_tune_trials(self) -> int:
        """Trials that search for the best configurations, over all arms."""
        return len(self.arms) * self.tune.num_trials if self.tune else 0

    @property
    def num_final_trials(self) -> int:
        """Trials of the final stage, over all arms."""
        return len(self.arms) * self.final.seeds
