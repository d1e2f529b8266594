"""Check every arm of a sweep in full, and every value that the search inside it may set."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fpt_ray.config.arms import arm_name, arm_values, combinations
from fpt_ray.config.checks import is_usable, may_be_tuned, why_not_compared
from fpt_ray.config.document import Entry
from fpt_ray.config.findings import Finding, Located, Origin, locate
from fpt_ray.config.identity import identity
from fpt_ray.config.model_checks import check_trial
from fpt_ray.config.settings import TrialSettings
from fpt_ray.config.sweep import Sweep
from fpt_ray.config.wording import explain

# Values of task and model keys are checked in combination. Of a space with more combinations, these
# many are checked, and the others when their trials are made.
_MAX_COMBINATIONS = 500


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value that an arm or a search gives to a dotted key, and what in the file says so."""

    key: str
    value: Any
    entry: Entry
    level: int

    @property
    def origin(self) -> Origin:
        return Origin(tuple(self.key.split(".")), self.entry, self.level)


def check_arms(sweep: Sweep, file: Entry) -> Iterator[tuple[Located, tuple[str, ...]]]:
    """Find what is wrong with the arms.

    Args:
        sweep: the sweep.
        file: the data it was made from.

    Yields:
        What is wrong, once, and the names of the arms it is wrong with; no names if with all.
    """
    arms_of: dict[Located, list[str]] = {}
    all_labels = list(combinations(sweep.compare))
    for labels in all_labels:
        for located in dict.fromkeys(_check_arm(sweep, labels, file)):
            arms_of.setdefault(located, []).append(arm_name(labels))
    for located, names in arms_of.items():
        yield located, tuple(names) if len(names) < len(all_labels) else ()


def check_tuned_training(sweep: Sweep, file: Entry) -> Iterator[Located]:
    """Find values of tuned training keys that do not fit; they are the same in all arms."""
    for settings in _tuned(sweep, file):
        for setting in settings:
            if setting.key.startswith("training."):
                yield from _check_variant(sweep.base, [], [setting], file)


def check_repeated_arms(sweep: Sweep) -> Iterator[Finding]:
    """Find arms that resolve to the same settings."""
    seen: dict[str, dict[str, str]] = {}
    for labels in combinations(sweep.compare):
        values = arm_values(sweep.compare, labels)
        try:
            settings = sweep.base.with_values(values)
        except ValidationError:
            continue
        if any(map(why_not_compared, values)):
            continue
        first = seen.setdefault(_fingerprint(settings), labels)
        axes = [axis for axis in labels if labels[axis] != first[axis]]
        if len(axes) == 1:
            pair = f"labels {first[axes[0]]!r} and {labels[axes[0]]!r} of axis {axes[0]!r}"
        else:
            pair = f"arms {arm_name(first)!r} and {arm_name(labels)!r}"
        if axes:
            path = ("compare", axes[-1], labels[axes[-1]])
            what, fix = f"{pair} resolve to the same settings", "remove one, or change its settings"
            yield Finding(path, what, fix, at_key=True, involves=(("compare",),))


def _fingerprint(settings: TrialSettings) -> str:
    named = settings.compact()
    places = (named["model"].get("backbone"), named["model"].get("init"), settings.data.dir)
    return json.dumps([identity(settings), places], sort_keys=True)


def _check_arm(sweep: Sweep, labels: dict[str, str], file: Entry) -> Iterator[Located]:
    settings = list(_compared(sweep, labels, file))
    yield from _check_variant(sweep.base, settings, [], file)
    joint = [
        [setting for setting in values if not setting.key.startswith("training.")]
        for values in _tuned(sweep, file)
    ]
    combined = itertools.product(*(values for values in joint if values))
    for tuned in itertools.islice(combined, _MAX_COMBINATIONS):
        yield from _check_variant(sweep.base, settings, tuned, file)


def _check_variant(
    base: TrialSettings, compared: Sequence[_Setting], tuned: Sequence[_Setting], file: Entry
) -> Iterator[Located]:
    """Check the settings of one arm with one combination of tuned values."""
    settings = [*sorted(compared, key=lambda setting: setting.key.count(".")), *tuned]
    origins = [Origin((), file), *(setting.origin for setting in settings)]
    try:
        trial = base.with_values({setting.key: setting.value for setting in settings})
        findings = [*check_trial(trial), *_check_budget(trial, base)]
    except ValidationError as error:
        findings = explain(error, TrialSettings)
    for finding in findings:
        yield locate(finding, origins)


def _check_budget(trial: TrialSettings, base: TrialSettings) -> Iterator[Finding]:
    for key in ("max_steps", "eval_every"):
        own, common = getattr(trial.training, key), getattr(base.training, key)
        if own != common:
            what = f"this arm would have {key} {own}, the others {common}: arms get equal budgets"
            yield Finding(("training", key), what, f"{key}: {common}")


def _compared(sweep: Sweep, labels: dict[str, str], file: Entry) -> Iterator[_Setting]:
    """Yield what an arm sets, as far as such settings exist."""
    settings: dict[str, _Setting] = {}
    for axis, label in labels.items():
        for key, value in _usable(sweep.compare[axis][label]).items():
            entry, _ = file.find(("compare", axis, label, key))
            settings[key] = _Setting(key, value, entry, 1)
    yield from settings.values()


def _usable(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in values.items() if is_usable(key) and not why_not_compared(key)
    }


def _tuned(sweep: Sweep, file: Entry) -> Iterator[list[_Setting]]:
    """Yield, for each tuned key that may be tuned, the values to check."""
    for key, domain in sweep.tune.space.items() if sweep.tune else ():
        if may_be_tuned(key):
            path = ("tune", "space", key, domain.kind)
            yield [
                _Setting(key, value, file.find((*path, index))[0], 2)
                for index, value in enumerate(domain.probes)
            ]
