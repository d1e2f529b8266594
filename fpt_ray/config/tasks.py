"""The tasks' own parameters, and the length of the token sequence that follows from them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fpt_ray.config.base import Settings, refusal


class BitXor(Settings):
    """The elementwise exclusive or of bit strings, one bit a token."""

    name: Literal["bit_xor"] = "bit_xor"
    patterns: int = Field(default=2, ge=2)
    """How many strings are combined; at least 2."""
    length: int = Field(default=5, ge=1)
    """Bits in one string; at least 1."""

    @property
    def seq_length(self) -> int:
        """Tokens in one sequence."""
        return self.patterns * self.length


class BitMemory(Settings):
    """Bit strings to remember, then one of them again with some of its bits masked."""

    name: Literal["bit_memory"] = "bit_memory"
    patterns: int = Field(default=5, ge=1)
    """How many strings are shown before the masked one; at least 1."""
    length: int = Field(default=1000, ge=1, le=10**6)
    """Bits in one string, in [1, 10**6]; a multiple of token_bits."""
    token_bits: int = Field(default=50, ge=1)
    """Bits in one token; at least 1."""
    mask_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance that a bit of the last string is masked, in [0, 1]."""

    @property
    def seq_length(self) -> int:
        """Tokens in one sequence."""
        return (self.patterns + 1) * self.length // self.token_bits

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        if self.length % self.token_bits:
            raise refusal(
                ("token_bits",),
                f"token_bits {self.token_bits} does not divide length {self.length}",
                f"token_bits: {nearest_divisor(self.length, self.token_bits)}",
            )
        return self


class Mnist(Settings):
    """Handwritten digits cut into square patches, one patch a token."""

    name: Literal["mnist"] = "mnist"
    patch_size: int = Field(default=4, ge=1)
    """Side of a patch in pixels; divides image_size."""
    image_size: int = Field(default=28, ge=28, le=4096)
    """Side of the image in pixels, in [28, 4096]; it is padded evenly, so the size is even."""

    @property
    def seq_length(self) -> int:
        """Tokens in one sequence."""
        return (self.image_size // self.patch_size) ** 2

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        if self.image_size % 2:
            what = f"images of 28 pixels cannot be padded evenly to {self.image_size}"
            raise refusal(("image_size",), what, f"image_size: {self.image_size - 1}")
        if self.image_size % self.patch_size:
            raise refusal(
                ("patch_size",),
                f"patch_size {self.patch_size} does not divide image_size {self.image_size}",
                f"patch_size: {nearest_divisor(self.image_size, self.patch_size)}",
            )
        return self


TASKS: dict[str, type[Settings]] = {"bit_xor": BitXor, "bit_memory": BitMemory, "mnist": Mnist}

GENERATED_TASKS = ("bit_xor", "bit_memory")

TaskSettings = Annotated[BitXor | BitMemory | Mnist, Field(discriminator="name")]


def nearest_divisor(total: int, wanted: int) -> int:
    """Find a number's divisor that is nearest to the wanted one, the smaller of two."""
    divisors = (divisor for divisor in range(1, total + 1) if total % divisor == 0)
    return min(divisors, key=lambda divisor: abs(divisor - wanted))
