"""What must hold between the parts of a sweep, beyond the type and range of each value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fpt_ray.config.arms import arm_name, combinations
from fpt_ray.config.base import KeyPath
from fpt_ray.config.findings import Finding
from fpt_ray.config.published import published_tables
from fpt_ray.config.schema import dotted_keys, leaf_keys, nearest
from fpt_ray.config.settings import TrialSettings
from fpt_ray.config.sweep import Sweep
from fpt_ray.config.tune import AshaScheduler

_SECTIONS = tuple(TrialSettings.model_fields)
_SAME_BUDGET = ("training.max_steps", "training.eval_every")
_SAME_MEASURE = ("training.validation_size", "training.test_size")
_EQUAL_IN_ARMS = "all arms get the same steps, evaluations and rungs"
_EQUAL_IN_SEARCH = "configurations are compared on the same task, data, steps and rungs"


def why_not_compared(key: str) -> str | None:
    """Say why a setting cannot differ between arms; None if it can."""
    if key in _SAME_BUDGET:
        return f"{key} cannot be compared: {_EQUAL_IN_ARMS}"
    if key in _SAME_MEASURE:
        return f"{key} cannot be compared: all arms are measured on the same examples"
    return None


def why_not_tuned(key: str) -> str | None:
    """Say why a setting cannot be tuned; None if it can."""
    if key in _SECTIONS or key == "training.optimizer":
        return f"{key} is a section: tune one of its keys"
    fixed = (*_SAME_BUDGET, *_SAME_MEASURE, "task.name")
    if key in fixed or key.startswith("data."):
        return f"{key} cannot be tuned: {_EQUAL_IN_SEARCH}"
    return None


def is_usable(key: str) -> bool:
    """Tell whether a dotted key names something that a trial has."""
    return key in set(dotted_keys(TrialSettings))


def may_be_tuned(key: str) -> bool:
    """Tell whether a dotted key names something that may be tuned."""
    return is_usable(key) and not why_not_tuned(key)


def check_compare_keys(sweep: Sweep) -> Iterator[Finding]:
    """Find settings of arms that do not exist, or may not differ."""
    for axis, labels in sweep.compare.items():
        for label, values in labels.items():
            for key in values:
                path = ("compare", axis, label, key)
                yield from _check_key(path, "compared", why_not_compared(key))


def check_tuned_keys(sweep: Sweep) -> Iterator[Finding]:
    """Find tuned keys that do not exist, or may not be tuned."""
    for key in sweep.tune.space if sweep.tune else ():
        yield from _check_key(("tune", "space", key), "tuned", why_not_tuned(key))


def _check_key(path: tuple[str, ...], verb: str, why_not: str | None) -> Iterator[Finding]:
    key = path[-1]
    if why_not:
        fix = f"remove it; set {key} once, in its section" if "." in key else f"{key}.KEY"
        yield Finding(path, why_not, fix, at_key=True)
    elif key.split(".")[0] in set(Sweep.model_fields) - set(_SECTIONS):
        what = f"{key} cannot be {verb}: it is the same for all trials"
        yield Finding(path, what, f"a key of {', '.join(_SECTIONS)}", at_key=True)
    elif not is_usable(key):
        near = nearest(key, leaf_keys(TrialSettings))
        fix = near or f"a dotted key of {', '.join(_SECTIONS)}, such as training.learning_rate"
        yield Finding(path, f"there is no setting {key!r}", fix, at_key=True)


def check_compared_and_tuned(sweep: Sweep) -> Iterator[Finding]:
    """Find keys that the arms set and the search would overwrite."""
    for axis, labels in sweep.compare.items():
        for label, values in labels.items():
            set_keys = set(_leaves(values))
            for key in filter(may_be_tuned, sweep.tune.space if sweep.tune else ()):
                if any(_overlap(key, other) for other in set_keys):
                    what = f"{key} is tuned, and also compared in axis {axis!r} (label {label!r})"
                    fix = f"remove it from tune.space, or from compare.{axis}"
                    path = ("compare", axis, label)
                    yield Finding(("tune", "space", key), what, fix, at_key=True, involves=(path,))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def check_reference(sweep: Sweep) -> Iterator[Finding]:
    """Find axes and labels of the reference that do not exist, and axes that it leaves out."""
    if sweep.reference is None:
        return
    for axis, label in sweep.reference.items():
        if axis not in sweep.compare:
            what = f"reference names {axis!r}, which is no axis of compare"
            yield _no_such(("reference", axis), what, axis, list(sweep.compare), at_key=True)
        elif label not in sweep.compare[axis]:
            what = f"reference names {label!r}, which is no label of axis {axis!r}"
            yield _no_such(("reference", axis), what, label, list(sweep.compare[axis]))
    for axis in sweep.compare.keys() - sweep.reference.keys():
        labels = ", ".join(sweep.compare[axis])
        what = f"reference leaves out axis {axis!r}"
        yield Finding(("reference",), what, f"add {axis}: LABEL, one of {labels}", at_key=True)


def check_published(sweep: Sweep) -> Iterator[Finding]:
    """Find arms, tables and rows of published numbers that do not exist."""
    if not sweep.published:
        return
    tables = published_tables()
    names = [arm_name(labels) for labels in combinations(sweep.compare)]
    for index, published in enumerate(sweep.published):
        path: KeyPath = ("published", index)
        for name in sorted(published.arms.keys() - set(names)):
            what = f"there is no arm {name!r}"
            yield _no_such((*path, "arms", name), what, name, names, at_key=True)
        if published.table not in tables:
            what = f"there is no published table {published.table!r}"
            yield _unpublished((*path, "table"), what, published.table, list(tables))
            continue
        rows = list(tables[published.table].rows)
        for name, row in published.arms.items():
            if row not in rows:
                what = f"table {published.table} has no row {row!r}"
                yield _unpublished((*path, "arms", name), what, row, rows)


def _unpublished(path: KeyPath, what: str, word: str, names: list[str]) -> Finding:
    near, listed = nearest(word, names), f"one of {', '.join(names)}"
    return Finding(path, what, f"{near}; {listed}" if near else listed)


def _no_such(
    path: KeyPath, what: str, word: str, names: list[str], *, at_key: bool = False
) -> Finding:
    near = nearest(word, names)
    listed = f"one of {', '.join(names)}" if names else "remove it: nothing is compared"
    fix = f"{near}; {listed}" if near else listed
    return Finding(path, what, fix, at_key=at_key, involves=(("compare",),))


def check_schedule(sweep: Sweep) -> Iterator[Finding]:
    """Find rungs that no evaluation falls on."""
    scheduler = sweep.tune.scheduler if sweep.tune else None
    if not isinstance(scheduler, AshaScheduler):
        return
    grace, steps = scheduler.grace_period, sweep.training.max_steps
    every = sweep.training.eval_every
    path = ("tune", "scheduler", "grace_period")
    involves = (("training", "max_steps"), ("training", "eval_every"))
    if grace > steps:
        what = f"grace_period {grace} is more than training.max_steps {steps}"
        fix = f"grace_period: {min(every, steps)}"
        yield Finding(path, what, fix, involves=involves)
    elif grace % every:
        what = f"grace_period {grace} is not a multiple of training.eval_every {every}"
        fix = f"grace_period: {max(every, round(grace / every) * every)}"
        yield Finding(path, what, fix, involves=involves)


CHECKS: tuple[Callable[[Sweep], Iterator[Finding]], ...] = (
    check_compare_keys,
    check_tuned_keys,
    check_compared_and_tuned,
    check_reference,
    check_published,
    check_schedule,
)
