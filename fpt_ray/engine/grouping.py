"""Which trials train together next."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from fpt_ray.engine.members import Member

ALIGN_S = 0.5
"""How long trials that got their results are waited for, so that a pack stays together."""


@dataclass(frozen=True, slots=True)
class Group:
    """Members with one key, no more than a pack takes, by rank: present, if not all ready."""

    key: Hashable
    members: tuple[Member, ...]

    @property
    def ready(self) -> list[Member]:
        """Those that wait for a result."""
        return [member for member in self.members if member.ready]

    @property
    def served(self) -> int:
        """The turn since which one of them waits."""
        return min(member.served for member in self.ready)

    def gathers(self, now: float) -> float:
        """Seconds for which the others are still waited for, once some have got results."""
        since = [
            member.delivered_at
            for member in self.members
            if member.request is None and member.delivered_at is not None
        ]
        return max(0.0, max(since) + ALIGN_S - now) if since else 0.0


def form_groups(members: Sequence[Member], limit: Callable[[Hashable], int]) -> list[Group]:
    """Divide open members into groups: by key, earliest first, as many as a pack takes.

    Args:
        members: by rank.
        limit: members that a pack of a key takes.
    """
    by_key: dict[Hashable, list[Member]] = {}
    for member in members:
        if member.session is not None:
            by_key.setdefault(member.session.trial.key, []).append(member)
    return [
        Group(key, tuple(alike[first : first + limit(key)]))
        for key, alike in by_key.items()
        for first in range(0, len(alike), limit(key))
    ]


def form_line(members: Sequence[Member]) -> list[Group]:
    """Let only the earliest member train; one that stays away for a moment lends its place."""
    return [
        Group(member.session.trial.key, (member,))
        for member in members
        if member.session is not None
    ]


def choose(groups: Sequence[Group], now: float, in_line: bool = False) -> Group | float | None:
    """Choose the group that waits longest, of those that nobody is still waited for.

    A group has no claim while a larger one of its key is not idle: it is there to fill that one's
    places, and its turn may take as long.

    Args:
        groups: of all open members.
        now: by the members' clock.
        in_line: only the first group that is not idle has a claim.

    Returns:
        A group with ready members; or the seconds after which to choose again unless something
        happens; or None where nobody asks for anything.
    """
    claims = [(group, group.gathers(now)) for group in groups]
    active = [claim for claim in claims if claim[0].ready or claim[1] > 0]
    largest = {group.key: 0 for group, _ in active}
    for group, _ in active:
        largest[group.key] = max(largest[group.key], len(group.members))
    active = [claim for claim in active if len(claim[0].members) == largest[claim[0].key]]
    if in_line:
        active = active[:1]
    free = [group for group, moment in active if moment == 0 and group.ready]
    if free:
        return min(free, key=lambda group: group.served)
    return min((moment for _, moment in active), default=None)
