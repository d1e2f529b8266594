"""One turn of a pack: train to the next evaluation, and answer those who wait for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from fpt_ray.engine.device import is_fatal, is_out_of_memory, release_memory
from fpt_ray.engine.members import Member, Members, still
from fpt_ray.engine.ports import Pack, Session
from fpt_ray.engine.sizing import Limits
from fpt_ray.errors import FptRayError, TrialError
from fpt_ray.training import Evaluation, Metric, TestResult, TrialFault

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What turns work with.

    Attributes:
        members: where results go.
        limits: trials that packs take.
        writers: threads that write files.
        device: where packs are trained.
        metric: results are delivered best first.
        make_room: closes what could be opened again; tells whether there was anything.
    """

    members: Members
    limits: Limits
    writers: Executor
    device: torch.device
    metric: Metric
    make_room: Callable[[], bool]


class Turn:
    """Steps and evaluations of members that train together, whatever goes wrong with some.

    Who fails alone is answered with its error and gone. Errors that only a company meets cost it
    members: it is halved.

    Args:
        desk: what to work with.
        pack: trains them.
        members: ready, with one key.
    """

    def __init__(self, desk: Desk, pack: Pack, members: Sequence[Member]) -> None:
        self._desk = desk
        self._pack = pack
        self._members = list(members)
        self.num_steps = 0

    def run(self, interrupted: Callable[[], bool]) -> bool:
        """Train until an evaluation is due, or less; evaluate, save and answer.

        Args:
            interrupted: asked between two steps; the turn then ends early.

        Returns:
            Whether any member had an evaluation; if not, the same members are to go on.
        """
        due_steps = {member: _session(member).due_step for member in self._members}
        num_steps = min(due - _trial(member).step for member, due in due_steps.items())
        self._train(num_steps, interrupted)
        due = [
            member
            for member in still(self._members)
            if _trial(member).finished or _trial(member).step >= due_steps[member]
        ]
        answered = self._each(due, self._pack.evaluate)
        self.answer(self._saved(answered))
        return bool(due)

    def answer(self, evaluations: Sequence[tuple[Member, Evaluation]]) -> None:
        """Deliver evaluations that are saved, best first; those that the log holds go unsaid."""
        new = [(m, e) for m, e in evaluations if _session(m).is_new(e)]
        to_test = [member for member, e in new if _session(member).needs_test(e)]
        tests = dict(self._each(to_test, self._pack.test))
        for member, evaluation in sorted(new, key=self._rank):
            if not member.is_gone:
                self._deliver(member, evaluation, tests.get(member))

    def _deliver(self, member: Member, evaluation: Evaluation, test: TestResult | None) -> None:
        session = _session(member)
        result = session.report(evaluation, test)
        self._desk.members.deliver(member, result, is_last=session.is_last(evaluation))

    def _rank(self, answer: tuple[Member, Evaluation]) -> float:
        accuracy, loss = answer[1].validation_accuracy, answer[1].validation_loss
        if accuracy is None or loss is None:
            return float("inf")
        return loss if self._desk.metric == "validation_loss" else -accuracy

    def _train(self, num_steps: int, interrupted: Callable[[], bool]) -> None:
        before = {member: _trial(member).step for member in self._members}
        try:
            self._pack.train(_trials(self._members), num_steps, interrupted)
        except Exception as error:
            problem: Exception | None = error
        else:
            problem = None
        finally:
            self.num_steps += sum(_trial(m).step - step for m, step in before.items())
        if problem is not None:
            self._recover(_without_frames(problem))

    def _recover(self, problem: Exception) -> None:
        """Lose a member, or halve the pack, after a step of it has failed."""
        if isinstance(problem, TrialFault):
            self._fail(self._owner_of(problem), problem.error)
        elif is_out_of_memory(problem):
            release_memory(self._desk.device)
            if len(self._members) > 1:
                self._halve(problem)
            elif not self._desk.make_room():
                self._fail(self._members[0], problem)
        elif len(self._members) == 1:
            self._fail(self._members[0], problem)
        else:
            _LOG.warning("a pack of %d failed", len(self._members), exc_info=problem)
            self._try_each_alone(problem)

    def _try_each_alone(self, problem: Exception) -> None:
        """Let each member make one step alone; if all can, their company is what fails."""
        for member in self._members:
            single = Turn(self._desk, self._pack, [member])
            single._train(1, lambda: False)
            self.num_steps += single.num_steps
        if len(still(self._members)) == len(self._members):
            self._halve(problem)

    def _halve(self, problem: Exception) -> None:
        key = _trial(self._members[0]).key
        self._desk.limits.lower(key, len(self._members))
        limit = self._desk.limits.of(key)
        _LOG.warning("packs of %d become packs of %d: %s", len(self._members), limit, problem)

    def _each(
        self, members: Sequence[Member], work: Callable[[Sequence[Any]], Sequence[_T]]
    ) -> list[tuple[Member, _T]]:
        """Do something for all together; where that fails, for ever smaller parts of them."""
        members = still(members)
        if not members:
            return []
        try:
            return list(zip(members, work(_trials(members)), strict=True))
        except Exception as error:
            problem = _without_frames(error)
        if is_out_of_memory(problem):
            release_memory(self._desk.device)
        if isinstance(problem, TrialFault):
            self._fail(self._owner_of(problem), problem.error)
            return self._each(members, work)
        if len(members) == 1:
            if is_out_of_memory(problem) and self._desk.make_room():
                return self._each(members, work)
            self._fail(members[0], problem)
            return []
        middle = len(members) // 2
        return self._each(members[:middle], work) + self._each(members[middle:], work)

    def _saved(
        self, answered: Sequence[tuple[Member, Evaluation]]
    ) -> list[tuple[Member, Evaluation]]:
        """Write what members go on from, all at a time; keep those with whom that went well."""
        jobs = [(m, e, self._desk.writers.submit(_session(m).save, e)) for m, e in answered]
        errors = [(member, evaluation, job.exception()) for member, evaluation, job in jobs]
        return [(m, e) for m, e, error in errors if self._is_sound(m, e, error)]

    def _is_sound(
        self, member: Member, evaluation: Evaluation, error: BaseException | None
    ) -> bool:
        """Verify a member that was saved; let it go if that failed, or if it was not."""
        try:
            if error is not None:
                raise error
            # One after the other: what all share is hashed for the first of them only.
            _session(member).verify(evaluation)
        except Exception as problem:
            self._fail(member, problem)
            return False
        return True

    def _owner_of(self, fault: TrialFault) -> Member:
        return next(m for m in self._members if _trial(m) is fault.trial)

    def _fail(self, member: Member, error: Exception) -> None:
        self._desk.members.fail(member, ours(error))


def ours(error: Exception) -> FptRayError:
    """Make an error one of ours, which reaches the trial's process whole."""
    if is_fatal(error):
        raise error
    if isinstance(error, FptRayError):
        return error
    if is_out_of_memory(error):
        return TrialError(
            f"memory does not suffice for one trial alone: {_first_line(error)}",
            fix="a smaller training.batch_size, training.precision: bf16, or a larger device",
        )
    _LOG.error("a trial failed", exc_info=error)
    return TrialError(
        f"{type(error).__name__}: {error}",
        fix="look for the traceback in the engine's log (run with --debug)",
    )


def _without_frames(error: Exception) -> Exception:
    """Let go of the tensors that the frames of an error hold; fatal errors are raised on."""
    if is_fatal(error):
        raise error
    if is_out_of_memory(error):
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    return error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _session(member: Member) -> Session:
    if member.session is None:
        raise ValueError("a member takes its turn before its session is open")
    return member.session


def _trial(member: Member) -> Any:
    return _session(member).trial


def _trials(members: Sequence[Member]) -> list[Any]:
    return [_trial(member) for member in members]
