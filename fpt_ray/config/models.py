"""The models that a trial may train, each with its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from fpt_ray.config.base import Settings, refusal

DEFAULT_TRAINED = ("input", "output", "layer_norm", "positions")
"""What FPT trains. Source: Lu et al. 2021, arXiv:2103.05247, section 2.2."""

PositiveInt = Annotated[int, Field(ge=1)]


def _locate(reference: str) -> str:
    """Write a relative run directory as seen from here: trials run elsewhere.

    Raises:
        PydanticCustomError: a part is missing.
    """
    run_dir, mark, arm = reference.rpartition("#") if "#" in reference else (reference, "", "")
    if not run_dir.strip() or not arm.strip():
        lacking = "a directory before its #" if mark and arm.strip() else "#ARM at its end"
        fix = f"checkpoint: {run_dir.strip() or 'runs/NAME'}#{arm.strip() or 'default'}"
        raise refusal((), f"checkpoint {reference!r} lacks {lacking}", fix)
    is_uri = "://" in run_dir or run_dir.startswith("~")
    return reference if is_uri else f"{Path(run_dir).absolute()}#{arm}"


class CheckpointInit(Settings):
    """Weights that one of our own sweeps trained."""

    checkpoint: Annotated[str, AfterValidator(_locate)]
    """RUN_DIR#ARM: the arm's finalist with the best validation gives the backbone's weights. The
    arm of a sweep that compares nothing is default; a relative directory counts from where the
    command is run."""

    @property
    def run_dir(self) -> str:
        """The run directory: an absolute path or a URI."""
        return self.checkpoint.rpartition("#")[0]

    @property
    def arm(self) -> str:
        """The name of the arm."""
        return self.checkpoint.rpartition("#")[2]


def _check_init(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Replace the errors of a union by one that a reader understands."""
    try:
        return handler(value)
    except ValidationError as error:
        for found in error.errors():
            if found["type"] == "refused":
                own = found["ctx"]
                raise refusal(("checkpoint",), own["what"], own["fix"]) from error
        raise refusal(
            (),
            f"init cannot be {value!r}",
            "pretrained, or random, or statistics, or {checkpoint: RUN_DIR#ARM}",
        ) from error


Init = Annotated[
    Literal["pretrained", "random", "statistics"] | CheckpointInit, WrapValidator(_check_init)
]


class EndSettings(Settings):
    """The layers around what lies between them, which every model has."""

    input_layer: Literal["auto", "linear", "embedding"] = "auto"
    """auto: linear for features, an embedding for ids; linear reads ids as one-hot vectors."""
    orthogonal_gain: float = Field(default=1.41, gt=0)
    """Gain of the input layer's orthogonal initial weights; above 0."""
    input_mlp: tuple[PositiveInt, ...] = Field(default=(), strict=False)
    """Hidden sizes before the input layer; empty for a linear input layer."""
    output_mlp: tuple[PositiveInt, ...] = Field(default=(), strict=False)
    """Hidden sizes before the output layer; empty for a linear output layer."""
    read: Literal["last", "first", "mean"] = "last"
    """Which tokens the output layer reads: the task's last ones, as many of the first ones, or
    the mean over all of them."""
    token_order: Literal["given", "shuffled"] = "given"
    """shuffled: all tokens but the last ones, which carry the question, in an order that the
    trial's seed draws once."""


class FPTSettings(EndSettings):
    """A transformer between the ends; which of its groups are trained is up to ``trained``."""

    name: Literal["fpt"] = "fpt"
    backbone: str = Field(min_length=1)
    """Hub id, local directory, or built-in name (minilm-l6, tiny-gpt2, tiny-bert, ...)."""
    init: Init = "pretrained"
    """The backbone's weights before training: pretrained; drawn from the trial's seed (random);
    drawn with each pretrained tensor's mean and deviation (statistics); or {checkpoint: ...}."""
    trained: tuple[str, ...] = Field(default=DEFAULT_TRAINED, min_length=1, strict=False)
    """Selectors of what gets updates, such as input, "attention[-1]", "all - layer_norm[6:]"."""
    num_layers: int | None = Field(default=None, ge=1)
    """Keep only the backbone's first layers; null keeps all."""
    extend_positions: int | None = Field(default=None, ge=1)
    """Grow the backbone's position table to this many positions; null leaves it."""


class LSTMSettings(EndSettings):
    """A stack of LSTM layers between the ends, drawn from the trial's seed."""

    name: Literal["lstm"] = "lstm"
    trained: tuple[str, ...] = Field(default=("all",), min_length=1, strict=False)
    """Selectors of what gets updates: input, output, recurrent, "recurrent[-1]", layer_norm,
    positions, all."""
    hidden_size: int = Field(default=768, ge=1)
    """Features of a token between the layers."""
    num_layers: int = Field(default=3, ge=1)
    """LSTM layers."""
    layer_norm: bool = True
    """Whether each layer's output is normalised."""
    residual: bool = False
    """Whether each layer's input is added to its output."""
    positions: bool = False
    """Whether a learned table of positions is added to the embedded tokens."""


class NoBackboneSettings(EndSettings):
    """Nothing between the ends: a control for what they can do alone."""

    name: Literal["no_backbone"] = "no_backbone"
    trained: tuple[str, ...] = Field(default=("all",), min_length=1, strict=False)
    """Selectors of what gets updates: input, output, all."""
    hidden_size: int = Field(default=768, ge=1)
    """Features of a token between the ends."""


def _kind(value: Any) -> Any:
    """Tell which model is meant; one without a name is an FPT."""
    return value.get("name", "fpt") if isinstance(value, dict) else getattr(value, "name", "fpt")


ModelSettings = Annotated[
    Annotated[FPTSettings, Tag("fpt")]
    | Annotated[LSTMSettings, Tag("lstm")]
    | Annotated[NoBackboneSettings, Tag("no_backbone")],
    Discriminator(_kind),
]
