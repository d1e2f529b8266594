"""Optuna's studies, rebuilt from the log: one per arm, in a journal that dashboards open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fpt_ray.records import SweepRecord, TrialRecord
from fpt_ray.records.studies import distribution, to_optuna
from fpt_ray.storage import RunDirectory

if TYPE_CHECKING:
    # Importing optuna takes a second, so the functions below do it when they are called.
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend
    from optuna.trial import FrozenTrial

JOURNAL = "studies/journal.log"

# A stopped trial is Optuna's PRUNED. So is a diverged one: as FAIL, samplers that read the study
# would ignore it and propose its rate again; as COMPLETE it would need an invented value, which
# plots would show.
_STATES = {
    "running": "RUNNING",
    "finished": "COMPLETE",
    "stopped": "PRUNED",
    "diverged": "PRUNED",
    "failed": "FAIL",
}


class _StaleError(Exception):
    """The former journal says something that no longer holds, so it cannot be extended."""


def write_studies(run: RunDirectory, record: SweepRecord) -> None:
    """Write the journal with the tuning trials of every arm; a sweep without a search has none.

    The former journal is extended where it can be, so that a dashboard that has read it reads on.

    Args:
        run: the run directory.
        record: what it holds.
    """
    if not record.space:
        return
    former = run.read_bytes(JOURNAL) or b""
    try:
        journal = extend_journal(record, former)
    except (_StaleError, ValueError, KeyError, TypeError):
        # A stale or damaged journal costs nothing: all of it stands in the trials' logs.
        journal = extend_journal(record, b"")
    if journal != former:
        run.write_bytes(JOURNAL, journal)


def extend_journal(record: SweepRecord, former: bytes) -> bytes:
    """Return a journal that begins with ``former`` and ends with what the record knows beyond it.

    Raises:
        ValueError: if ``former`` is not a journal.
    """
    from optuna.storages import JournalStorage

    lines = [json.loads(line) for line in former.decode().splitlines()]
    with _quiet_optuna():
        storage = JournalStorage(_journal_of(lines))
        for arm in record.arms:
            _update_study(storage, record, arm.name)
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()


def _journal_of(lines: list[dict[str, Any]]) -> BaseJournalBackend:
    """Make a journal of a list, which grows: a file would be synced to disk at every entry."""
    from optuna.storages.journal import BaseJournalBackend

    class ListBackend(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
            return list(lines[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            lines.extend(logs)

    return ListBackend()


def _update_study(storage: JournalStorage, record: SweepRecord, arm: str) -> None:
    study_id = _study_id(storage, f"{record.name}/{arm}", record.direction)
    known = {t.user_attrs["trial_id"]: t for t in storage.get_all_trials(study_id, deepcopy=False)}
    trials = record.of_arm(arm, "tune")
    if known.keys() - {trial.trial_id for trial in trials}:
        raise _StaleError
    for trial in trials:
        wanted = _frozen(record, trial)
        if trial.trial_id in known:
            _update_trial(storage, known[trial.trial_id], wanted)
        else:
            storage.create_new_trial(study_id, template_trial=wanted)


def _study_id(storage: JournalStorage, name: str, direction: str) -> int:
    from optuna.study import StudyDirection

    for study in storage.get_all_studies():
        if study.study_name == name:
            return int(study._study_id)
    wanted = StudyDirection.MAXIMIZE if direction == "max" else StudyDirection.MINIMIZE
    return int(storage.create_new_study([wanted], name))


def _update_trial(storage: JournalStorage, known: FrozenTrial, wanted: FrozenTrial) -> None:
    """Add what a running trial has done since; an ended one must not have changed."""
    reports = wanted.intermediate_values
    added = {
        step: reports[step] for step in sorted(reports.keys() - known.intermediate_values.keys())
    }
    unchanged = wanted.state == known.state and wanted.user_attrs == known.user_attrs
    if unchanged and not added and wanted.distributions == known.distributions:
        return
    if known.state.is_finished() or wanted.distributions != known.distributions:
        raise _StaleError
    for step, value in added.items():
        storage.set_trial_intermediate_value(known._trial_id, step, value)
    for name, attribute in wanted.user_attrs.items():
        if known.user_attrs.get(name) != attribute:
            storage.set_trial_user_attr(known._trial_id, name, attribute)
    if wanted.state != known.state:
        storage.set_trial_state_values(known._trial_id, wanted.state, wanted.values)


def _frozen(record: SweepRecord, trial: TrialRecord) -> FrozenTrial:
    """Write one trial in Optuna's terms; its value is that of its best evaluation."""
    from optuna.trial import TrialState, create_trial

    state = TrialState[_STATES[trial.status]]
    keeps_value = state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.best is not None
    frozen = create_trial(
        state=state,
        value=getattr(trial.best, record.metric) if keeps_value else None,
        params={key: to_optuna(value) for key, value in trial.values.items()},
        distributions={key: distribution(record.space[key]) for key in trial.values},
        user_attrs=_user_attributes(trial),
        intermediate_values=_reports(trial, record.metric),
    )
    # The log holds durations and no dates, so a trial is dated as if it had just been looked at.
    wall_s = trial.evaluations[-1].wall_s if trial.evaluations else 0.0
    frozen.datetime_start = datetime.now() - timedelta(seconds=wall_s)
    return frozen


def _user_attributes(trial: TrialRecord) -> dict[str, Any]:
    attributes = {"trial_id": trial.trial_id, "status": trial.status, "seed": trial.seed}
    return attributes | ({"reason": trial.reason} if trial.reason else {})


def _reports(trial: TrialRecord, metric: str) -> dict[int, float]:
    measured = {each.step: getattr(each, metric) for each in trial.evaluations}
    return {step: value for step, value in measured.items() if value is not None}


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing every study on stderr."""
    from optuna import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
