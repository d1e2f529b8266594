"""What a tuned key may be set to: a list of values, or a range to draw from."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from fpt_ray.config.base import Settings, refusal


class Domain(Settings):
    """The values that a searcher may give to one key."""

    @property
    def kind(self) -> str:
        """The domain's name in the sweep file, such as ``log_uniform``."""
        return next(iter(type(self).model_fields))

    @property
    def num_values(self) -> int | None:
        """How many different values there are; None for a continuous range."""
        return None

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that, if they fit, all fit: every listed one, or the ends of the range."""
        return tuple(getattr(self, self.kind))


class _Listed(Domain):
    @property
    def num_values(self) -> int:
        return len(self.probes)

    @model_validator(mode="after")
    def _check_repeats(self) -> Self:
        for index, value in enumerate(self.probes):
            if _is_listed(value, self.probes[:index]):
                raise refusal(
                    (self.kind, index),
                    f"{value!r} is listed twice",
                    "remove it: each value is one configuration",
                )
        return self


class Grid(_Listed):
    """Every listed value is tried."""

    grid: tuple[Any, ...] = Field(min_length=1, strict=False)


class Choice(_Listed):
    """Unordered values to draw from."""

    choice: tuple[Any, ...] = Field(min_length=1, strict=False)


class Uniform(Domain):
    """A range of floats, every one equally likely."""

    uniform: tuple[float, float] = Field(strict=False)
    """Lowest and highest value."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _refuse_unordered(self, *self.uniform)
        return self


class LogUniform(Domain):
    """A range of floats above 0, every order of magnitude equally likely."""

    log_uniform: tuple[float, float] = Field(strict=False)
    """Lowest and highest value; both above 0."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        low, high = self.log_uniform
        for index, bound in enumerate(self.log_uniform):
            if bound <= 0:
                what = f"the bounds of log_uniform must be above 0, and {bound} is not"
                fix = "log_uniform: [1e-4, 1e-2], or use uniform"
                raise refusal(("log_uniform", index), what, fix)
        _refuse_unordered(self, low, high)
        return self


class IntUniform(Domain):
    """A range of whole numbers, every one equally likely."""

    int_uniform: tuple[int, int] = Field(strict=False)
    """Lowest and highest value; both belong to the range."""

    @property
    def num_values(self) -> int:
        """How many whole numbers lie in the range."""
        low, high = self.int_uniform
        return high - low + 1

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _refuse_unordered(self, *self.int_uniform)
        return self


DOMAINS: dict[str, type[Domain]] = {
    "grid": Grid,
    "choice": Choice,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int_uniform": IntUniform,
}


def _domain_kind(value: Any) -> str | None:
    if isinstance(value, Domain):
        return value.kind
    kinds = [kind for kind in DOMAINS if isinstance(value, dict) and kind in value]
    return kinds[0] if kinds else None


AnyDomain = Annotated[
    Annotated[Grid, Tag("grid")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[IntUniform, Tag("int_uniform")],
    Discriminator(_domain_kind),
]


def _is_listed(value: Any, others: tuple[Any, ...]) -> bool:
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in others
    )


def _refuse_unordered(domain: Domain, low: float, high: float) -> None:
    if low >= high:
        raise refusal(
            (domain.kind,),
            f"the low end {low} of {domain.kind} is not below the high end {high}",
            f"{domain.kind}: [{high}, {low}]" if high < low else "a grid with that one value",
        )
