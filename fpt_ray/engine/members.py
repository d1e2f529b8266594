"""Who wants to be trained: requests, renewals and departures, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from fpt_ray.engine.ports import Session
from fpt_ray.errors import TrialError

DROPPED_AFTER_S = 30.0
"""A trial whose owner has not renewed for so long is dropped."""
LOOK_EVERY_S = 1.0
"""How often silence is looked at."""
_NOTICED_S = 5.0
"""Silence that one look counts at most: in a process that stood still, nobody could renew."""

Result = Future[dict[str, Any]]


@dataclass(eq=False, slots=True)
class Member:
    """A trial of the engine, with the owner that it has now.

    Attributes:
        order: what its owner asked for.
        rank: its place among all trials by the time of their first request.
        request: the result that is waited for; None between two requests.
        session: open once the loop has got to it.
        is_gone: whether it has left, failed, ended, or got another owner.
        silent_s: seconds since its owner was heard of.
        served: the turn in which it last trained.
        delivered_at: when it got its last result; None if it has not.
        waits_for_room: whether memory did not suffice to open it.
    """

    order: Mapping[str, Any]
    rank: int
    request: Result | None = None
    session: Session | None = None
    is_gone: bool = False
    silent_s: float = 0.0
    served: int = 0
    delivered_at: float | None = None
    waits_for_room: bool = False

    @property
    def trial_id(self) -> str:
        """The trial."""
        return str(self.order["trial_id"])

    @property
    def ready(self) -> Session | None:
        """Its session, where it is open and a result is waited for."""
        return self.session if self.request is not None and not self.is_gone else None


class Members:
    """The trials of an engine, under one lock.

    Args:
        clock: seconds that pass.

    Attributes:
        is_closed: whether nobody is to be served any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._by_id: dict[str, Member] = {}
        self._departed: list[Member] = []
        self._num_ranks = 0
        self._has_news = False
        self._looked_at = clock()
        self._refusal: Exception | None = None
        self.is_closed = False

    def submit(self, order: Mapping[str, Any]) -> Result:
        """Ask for a trial's next result; a former owner's request fails."""
        with self._changed:
            if self._refusal is not None:
                return _failed(self._refusal)
            member = self._by_id.get(order["trial_id"])
            if member is None or member.order["session"] != order["session"]:
                member = self._enter(order, member)
            member.silent_s = 0.0
            if member.request is None:
                member.request = _new_request()
            self._tell()
            return member.request

    def renew(self, trial_id: str) -> None:
        """Note that a trial's owner lives."""
        with self._changed:
            if member := self._by_id.get(trial_id):
                member.silent_s = 0.0

    def leave(self, trial_id: str) -> None:
        """Let a trial go whose owner does not need it any more."""
        with self._changed:
            if member := self._by_id.get(trial_id):
                self._depart(member, _left())

    def deliver(self, member: Member, result: dict[str, Any], is_last: bool) -> None:
        """Answer a member's request; after its last result it is gone."""
        with self._changed:
            if member.is_gone:
                return
            request, member.request = member.request, None
            member.delivered_at = self._clock()
            if request is not None:
                request.set_result(result)
            if is_last:
                self._depart(member, _left())

    def fail(self, member: Member, error: Exception) -> None:
        """Answer a member's request with an error, and let it go."""
        with self._changed:
            self._depart(member, error)

    def refuse(self, error: Exception) -> None:
        """Answer every request with an error, from now on."""
        with self._changed:
            self._refusal = error
            for member in list(self._by_id.values()):
                self._depart(member, error)

    def close(self, error: Exception) -> None:
        """Refuse everything, and end every wait."""
        with self._changed:
            self.is_closed = True
            self.refuse(error)
            self._tell()

    def age(self) -> None:
        """Drop the members whose owners have been silent for too long."""
        with self._changed:
            now = self._clock()
            if now - self._looked_at < LOOK_EVERY_S:
                return
            passed, self._looked_at = min(now - self._looked_at, _NOTICED_S), now
            for member in list(self._by_id.values()):
                member.silent_s += passed
                if member.silent_s >= DROPPED_AFTER_S:
                    self._depart(member, _dropped())

    def present(self) -> list[Member]:
        """List the members, earliest first."""
        with self._changed:
            return sorted(self._by_id.values(), key=lambda member: member.rank)

    def departed(self) -> list[Member]:
        """List those who have gone since the last call, whose sessions are to be closed."""
        with self._changed:
            gone, self._departed = self._departed, []
            return gone

    def has_news(self) -> bool:
        """Tell whether someone came, asked or went since the last ``heard``."""
        return self._has_news

    def heard(self) -> None:
        """Count all that was told so far as known."""
        with self._changed:
            self._has_news = False

    def wait(self, timeout_s: float | None) -> None:
        """Wait until someone comes, asks or goes."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_news or self.is_closed, timeout_s)

    def wake(self) -> None:
        """End a wait."""
        with self._changed:
            self._tell()

    def _enter(self, order: Mapping[str, Any], former: Member | None) -> Member:
        if former is None:
            self._num_ranks += 1
            member = Member(order, self._num_ranks)
        else:
            self._depart(former, _replaced())
            member = Member(order, former.rank, served=former.served)
        self._by_id[member.trial_id] = member
        return member

    def _depart(self, member: Member, error: Exception) -> None:
        if member.is_gone:
            return
        member.is_gone = True
        self._by_id.pop(member.trial_id)
        self._departed.append(member)
        if member.request is not None:
            member.request.set_exception(error)
        self._tell()

    def _tell(self) -> None:
        self._has_news = True
        self._changed.notify_all()


def still(members: Collection[Member]) -> list[Member]:
    """Keep those members that have not gone."""
    return [member for member in members if not member.is_gone]


def _new_request() -> Result:
    request: Result = Future()
    # From here on nobody can cancel it, so that it can always be answered.
    request.set_running_or_notify_cancel()
    return request


def _failed(error: Exception) -> Result:
    request = _new_request()
    request.set_exception(error)
    return request


def _left() -> TrialError:
    return TrialError("the trial has left its engine")


def _replaced() -> TrialError:
    return TrialError("the trial was started again by another process, which owns it now")


def _dropped() -> TrialError:
    return TrialError(
        f"the engine dropped the trial: its process was silent for {DROPPED_AFTER_S:.0f} s",
        fix="nothing: it is tried again from its last evaluation (failures.max_failures)",
    )
