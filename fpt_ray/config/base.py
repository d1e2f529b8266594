"""What all parts of the sweep file share: strict types, no unknown keys, no later change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """A part of the sweep file: immutable, without unknown keys, and with no guessing at types.

    A quoted number is not a number, true is not 1, and .nan and .inf are refused; whole numbers may
    stand for floats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead to a value of the sweep file."""


def refusal(
    path: KeyPath, what: str, fix: str, involves: tuple[KeyPath, ...] = ()
) -> PydanticCustomError:
    """Build the error with which a validator refuses a combination of fields.

    Args:
        path: what to point at, seen from what is being validated.
        what: what is wrong, one sentence without a full stop.
        fix: what to write instead.
        involves: other paths that the verdict rests on; it is not given while one of them is itself
            wrong.
    """
    context = {"path": path, "what": what, "fix": fix, "involves": involves}
    return PydanticCustomError("refused", "{what}", context)
