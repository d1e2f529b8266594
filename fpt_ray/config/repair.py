"""Mend a sweep file's data, so that what is not wrong with it is checked in the same pass."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from fpt_ray.config.base import KeyPath
from fpt_ray.config.document import Entry, Node
from fpt_ray.config.findings import Finding, Located, Origin, locate
from fpt_ray.config.sweep import Sweep
from fpt_ray.config.wording import explain

# Each round mends every finding of the one before, so only what hides behind them needs another.
_MAX_ROUNDS = 50

_STAND_INS: dict[KeyPath, Any] = {
    ("name",): "sweep",
    ("task",): {"name": "bit_xor"},
    ("model",): {"backbone": "gpt2"},
    ("model", "backbone"): "gpt2",
    ("tune", "searcher"): {"name": "random", "num_trials": 1},
    ("tune", "searcher", "num_trials"): 1,
    ("tune", "scheduler", "grace_period"): 1,
}


class Draft:
    """A sweep made from data that may be wrong.

    Attributes:
        document: the data, with misspelled keys as they may be meant.
        located: what is wrong with the data.
        doubtful: paths whose values were replaced; nothing that rests on them is worth reporting.
        sweep: the sweep as it might be meant; None if it could not be guessed.
    """

    def __init__(self, document: Node, name: str) -> None:
        self.document = document
        self.located: list[Located] = []
        self.doubtful: list[KeyPath] = []
        self.sweep: Sweep | None = None
        data = {"name": name} | document.plain()
        for _ in range(_MAX_ROUNDS):
            try:
                self.sweep = Sweep.model_validate(data)
                return
            except ValidationError as error:
                self._mend(data, explain(error, Sweep))

    def _mend(self, data: dict[str, Any], findings: list[Finding]) -> None:
        # A required key that is only misspelled is not missing as well.
        respelled = {(*each.path[:-1], each.meant) for each in findings if each.at_key}
        findings = [each for each in findings if each.path not in respelled]
        known = [located.finding for located in self.located]
        origins = [Origin((), Entry(self.document.place, self.document))]
        self.located += [
            locate(each, origins) for each in findings if not each.rests_on(self.doubtful)
        ]
        for finding in findings:
            if finding.at_key and finding not in known:
                self._rename(data, finding)
            elif finding.meant is not None and finding not in known:
                self._replace(data, finding)
            else:
                self._give_up(data, _dispensable(finding.path))

    def _rename(self, data: dict[str, Any], finding: Finding) -> None:
        holder = _holder(data, finding.path)
        value = holder.pop(finding.path[-1], None)
        if isinstance(finding.meant, str) and finding.meant not in holder:
            holder[finding.meant] = value
            self.document = self.document.rename(finding.path, finding.meant)

    def _replace(self, data: dict[str, Any], finding: Finding) -> None:
        _holder(data, finding.path)[finding.path[-1]] = finding.meant
        if finding.path[-1] == "name":
            # What else stands in the section can only be judged once its kind is certain.
            self.doubtful.append(finding.path[:-1])

    def _give_up(self, data: dict[str, Any], path: KeyPath) -> None:
        self.doubtful.append(path)
        _drop(data, path)


def _dispensable(path: KeyPath) -> KeyPath:
    """Find the smallest thing around a wrong value that can go without moving other values.

    Positions in a list must stay those of the file: a list goes as a whole, and so does a domain.
    """
    if path[:2] == ("tune", "space"):
        return path[:3]
    lists = [depth for depth, part in enumerate(path) if isinstance(part, int)]
    return path[: lists[0]] if lists else path


def _holder(data: Any, path: KeyPath) -> Any:
    """Follow a path to the dictionary or list that holds its last part; {} if it leads nowhere."""
    for part in path[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return {}
    return data if isinstance(data, dict | list) else {}


def _drop(data: dict[str, Any], path: KeyPath) -> None:
    """Remove a value; where it is required, put a stand-in or remove what holds it."""
    if not path:
        return
    holder = _holder(data, path)
    try:
        del holder[path[-1]]
    except (KeyError, IndexError):
        if path in _STAND_INS:
            holder[path[-1]] = copy.deepcopy(_STAND_INS[path])
        else:
            _drop(data, path[:-1])
