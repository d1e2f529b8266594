"""Every error that a user can meet, as one tree.

    FptRayError(what, where, fix)
    ├── SweepFileError          also a ValueError: one or more problems of a sweep file or of --set
    ├── RunDirectoryError       a run directory that is in use, or cannot be read or written
    ├── DataError               a task's raw data are missing or damaged
    ├── ModelError              a backbone cannot be found or built as asked
    ├── CheckpointError         a saved state does not fit the trial that reads it
    └── TrialError              a trial failed while training

All of them survive pickling, because Ray moves exceptions between processes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what it is, where it stands and how to mend it."""

    what: str
    where: str | None = None
    fix: str | None = None

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n  fix: {self.fix}" if self.fix else located


class FptRayError(Exception):
    """An error whose text says what is wrong, where, and how to fix it."""

    def __init__(self, what: str, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where, fix)
        self.problem = Problem(what, where, fix)

    def __str__(self) -> str:
        return str(self.problem)


class SweepFileError(FptRayError, ValueError):
    """Everything that is wrong with a sweep file, found in one pass."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        if not problems:
            raise ValueError("a SweepFileError needs at least one problem")
        first = problems[0]
        super().__init__(first.what, first.where, first.fix)
        self.problems = problems

    def __reduce__(self) -> tuple[type[SweepFileError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class RunDirectoryError(FptRayError):
    """A run directory is in use, or cannot be read or written."""


class DataError(FptRayError):
    """A task's raw data are missing, incomplete or damaged."""


class ModelError(FptRayError):
    """A backbone cannot be found, read or built as asked."""


class CheckpointError(FptRayError):
    """A saved state is damaged or belongs to another trial."""


class TrialError(FptRayError):
    """A trial failed while it was training."""
