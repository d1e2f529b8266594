"""The thread that owns a device: it opens trials, gives packs their turns and never stops."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from fpt_ray.engine.device import is_fatal, is_out_of_memory, release_memory
from fpt_ray.engine.grouping import Group, choose, form_groups, form_line
from fpt_ray.engine.members import LOOK_EVERY_S, Member, Members, Result, still
from fpt_ray.engine.ports import MakePack, OpenSession, Pack, Session
from fpt_ray.engine.sizing import Limits
from fpt_ray.engine.turn import Desk, Turn, ours
from fpt_ray.errors import TrialError
from fpt_ray.training import Metric

_LOG = logging.getLogger(__name__)
_NUM_WRITERS = 8


@dataclass(frozen=True, slots=True)
class Tools:
    """What a loop needs of the world.

    Attributes:
        open_session: opens a trial as it was ordered.
        make_pack: makes the pack of a trial's key.
        limits: trials that packs take.
        device: what the loop owns.
        metric: results are delivered best first.
        begin: called in the loop's thread before anything else.
        on_broken: called when the device cannot be used any more.
        clock: seconds that pass.
    """

    open_session: OpenSession
    make_pack: MakePack
    limits: Limits
    device: torch.device
    metric: Metric
    begin: Callable[[], None] = lambda: None
    on_broken: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic


class EngineLoop:
    """Train whatever is asked for, as packs, in a thread of its own.

    Only that thread touches torch; all methods may be called from any other.

    Args:
        tools: what it works with.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._members = Members(tools.clock)
        self._writers = ThreadPoolExecutor(_NUM_WRITERS, "writer")
        self._desk = Desk(
            members=self._members,
            limits=tools.limits,
            writers=self._writers,
            device=tools.device,
            metric=tools.metric,
            make_room=self._make_room,
        )
        self._packs: dict[Hashable, Pack] = {}
        self._in_turn: list[Member] = []
        self._num_turns = 0
        self._num_steps = 0
        # A thread that waits for rows of Ray Data must not keep its process from ending.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, order: Mapping[str, Any]) -> Result:
        """Ask for a trial's next result, as `Engine.advance` says."""
        return self._members.submit(order)

    def renew(self, trial_id: str) -> None:
        """Say that a trial's owner lives."""
        self._members.renew(trial_id)

    def leave(self, trial_id: str) -> None:
        """Say that a trial is not needed any more."""
        self._members.leave(trial_id)

    def status(self) -> dict[str, Any]:
        """Describe the loop, as `Engine.status` says."""
        return {
            "trials": [member.trial_id for member in self._members.present()],
            "size": self._tools.limits.size,
            "limits": self._tools.limits.describe(),
            "device": str(self._tools.device),
            "steps": self._num_steps,
        }

    def refuse(self, error: Exception) -> None:
        """Answer every request with an error, from now on."""
        self._members.refuse(error)

    def close(self) -> None:
        """End after the step that is being made; who waits for a result gets an error."""
        self._members.close(_stopped())
        self._thread.join()

    def _run(self) -> None:
        try:
            self._tools.begin()
            while not self._members.is_closed:
                self._pass_safely()
        except BaseException as error:
            _LOG.critical("the engine is broken", exc_info=error)
            # A process that ends here answers nobody: whoever waits goes to another engine.
            self._tools.on_broken()
            self._members.refuse(_broken(error))
        finally:
            self._close_departed()
            self._writers.shutdown()

    def _pass_safely(self) -> None:
        try:
            self._pass()
        except Exception as error:
            if is_fatal(error):
                raise
            # Nobody may wait for what will never come, whatever went wrong.
            for member in self._members.present():
                self._members.fail(member, ours(error))

    def _pass(self) -> None:
        self._attend()
        now = self._tools.clock()
        chosen = choose(self._groups(), now, in_line=self._is_single)
        if isinstance(chosen, Group):
            self._take_turn(chosen.ready)
        else:
            self._rest(chosen)

    def _rest(self, moment: float | None) -> None:
        """Wait for news; the silence of members who wait too is looked at now and then."""
        timeout_s = LOOK_EVERY_S if self._members.present() else None
        self._members.wait(timeout_s if moment is None else min(moment, LOOK_EVERY_S))

    @property
    def _is_single(self) -> bool:
        return self._tools.limits.fixed == 1

    def _groups(self) -> list[Group]:
        present = self._members.present()
        return form_line(present) if self._is_single else form_groups(present, self._desk.limits.of)

    def _take_turn(self, ready: list[Member]) -> None:
        """Train a group until some of it have been evaluated; others may join on the way."""
        self._num_turns += 1
        while ready:
            self._in_turn = ready
            for member in ready:
                member.served = self._num_turns
            turn = Turn(self._desk, self._pack_of(_session(ready[0])), ready)
            try:
                is_over = turn.run(lambda: self._is_disturbed(ready))  # noqa: B023
            finally:
                self._num_steps += turn.num_steps
            if is_over or self._members.is_closed:
                break
            self._attend()
            ready = self._company(ready)
        self._in_turn = []

    def _company(self, members: Sequence[Member]) -> list[Member]:
        """Find those who train on with the first of some members that is still there."""
        for member in still(members):
            for group in self._groups():
                if member in group.ready:
                    return group.ready
        return []

    def _is_disturbed(self, members: Sequence[Member]) -> bool:
        """Tell whether a step was the last in this company: someone left, came, or is to join."""
        self._members.age()
        if self._members.is_closed:
            return True
        if not self._members.has_news():
            return False
        self._members.heard()
        if len(still(members)) < len(members) or self._new():
            return True
        return self._company(members) != list(members)

    def _attend(self) -> None:
        """Let go of those who left, and open those who are new."""
        self._members.heard()
        self._members.age()
        self._close_departed()
        for member in self._new():
            if self._members.is_closed:
                return
            self._open(member)

    def _new(self) -> list[Member]:
        return [
            member
            for member in self._members.present()
            if member.session is None and member.request is not None and not member.waits_for_room
        ]

    def _open(self, member: Member) -> None:
        try:
            session = member.session = self._tools.open_session(member.order)
            self._tools.limits.settle(session.trial.key, self._pack_of(session), session.trial)
            self._answer_again(member, session)
        except Exception as error:
            if is_fatal(error):
                raise
            problem = error.with_traceback(None) if is_out_of_memory(error) else error
        else:
            return
        self._not_opened(member, problem)

    def _not_opened(self, member: Member, problem: Exception) -> None:
        """Have a trial wait for room if others hold the memory that it needs; else it fails."""
        if is_out_of_memory(problem):
            self._end_session(member)
            self._forget_idle_packs(0)
            release_memory(self._tools.device)
            member.waits_for_room = bool(self._open_members())
        if not member.waits_for_room:
            self._members.fail(member, ours(problem))

    def _answer_again(self, member: Member, session: Session) -> None:
        """Deliver what was saved before but never reached the log."""
        evaluation = session.unreported()
        if evaluation is not None:
            session.verify(evaluation)
            Turn(self._desk, self._pack_of(session), [member]).answer([(member, evaluation)])

    def _pack_of(self, session: Session) -> Pack:
        """Give the pack of a session's key, which becomes the one that was used last."""
        key = session.trial.key
        pack = self._packs.pop(key, None) or self._tools.make_pack(session.trial)
        self._packs[key] = pack
        return pack

    def _close_departed(self) -> None:
        departed = self._members.departed()
        for member in departed:
            self._end_session(member)
        if departed:
            self._forget_idle_packs(1)
            self._let_one_in()

    def _let_one_in(self) -> None:
        """Open the next that waits for room, now that there is some."""
        waiting = [member for member in self._members.present() if member.waits_for_room]
        for member in waiting[:1]:
            member.waits_for_room = False

    def _make_room(self) -> bool:
        """Close sessions that do not train now; they are opened again when others have left.

        Those that lose nothing are closed first; then one after the other, the latest first.
        """
        self._forget_idle_packs(0)
        others = [member for member in self._open_members() if member not in self._in_turn]
        at_rest = [member for member in others if _session(member).at_rest]
        closed = at_rest or others[-1:]
        for member in closed:
            self._end_session(member)
            member.waits_for_room = True
        release_memory(self._tools.device)
        return bool(closed)

    def _open_members(self) -> list[Member]:
        return [member for member in self._members.present() if member.session is not None]

    def _end_session(self, member: Member) -> None:
        session, member.session = member.session, None
        if session is not None:
            with contextlib.suppress(Exception):
                session.close()

    def _forget_idle_packs(self, num_kept: int) -> None:
        """Give up packs that have no trials, all but those that were used last."""
        used = {_session(member).trial.key for member in self._open_members()}
        idle = [key for key in self._packs if key not in used]
        for key in idle[: len(idle) - num_kept]:
            del self._packs[key]


def _session(member: Member) -> Session:
    if member.session is None:
        raise ValueError("a member takes its turn before its session is open")
    return member.session


def _stopped() -> TrialError:
    return TrialError("the engine was stopped")


def _broken(error: BaseException) -> TrialError:
    return TrialError(
        f"the engine is broken: {type(error).__name__}: {error}",
        fix="nothing: another engine goes on from the last evaluation; if none does, look for the "
        "traceback in the engine's log (run with --debug)",
    )
