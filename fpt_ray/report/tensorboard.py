"""TensorBoard event files, made from the log: a longer log only adds to their bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fpt_ray.records import EvaluationRecord, SweepRecord, TrialRecord
from fpt_ray.storage import RunDirectory

FOLDER = "tensorboard"
_FILE = "events.out.tfevents.0.fpt_ray"
_SCALARS = (
    ("train/loss", "train_loss"),
    ("validation/loss", "validation_loss"),
    ("validation/accuracy", "validation_accuracy"),
    ("test/accuracy", "test_accuracy"),
)


def write_tensorboard(
    run: RunDirectory, record: SweepRecord, previous: SweepRecord | None = None
) -> None:
    """Write the event files of all trials that have evaluations.

    Args:
        run: the run directory.
        record: what it holds now.
        previous: what it held when the files were last written; trials that are the same in both
            are skipped.
    """
    written = {t.trial_id: t.evaluations for t in previous.trials} if previous else {}
    started_s = _started_s(run)
    for trial in record.trials:
        if trial.evaluations and trial.evaluations != written.get(trial.trial_id):
            _update(run, event_file(trial), event_bytes(trial, started_s))


def event_file(trial: TrialRecord) -> str:
    """Name a trial's event file, the arm's name in it made safe for any filesystem."""
    return f"{FOLDER}/{_path_safe(trial.arm)}/{trial.trial_id}/{_FILE}"


def event_bytes(trial: TrialRecord, started_s: float = 0.0) -> bytes:
    """Write a trial's evaluations as TensorBoard events.

    Args:
        trial: the trial.
        started_s: when the sweep started, in seconds since 1970. An event's wall time is this
            plus the trial's own clock, because the log holds no other times.
    """
    return b"".join(_record(event) for event in _events(trial, started_s))


def _events(trial: TrialRecord, started_s: float) -> Iterator[bytes]:
    from tensorboardX.proto.event_pb2 import Event  # imports torch, where there is one

    yield Event(wall_time=started_s, file_version="brain.Event:2").SerializeToString()
    for evaluation in trial.evaluations:
        yield _event(evaluation, started_s)


def _event(evaluation: EvaluationRecord, started_s: float) -> bytes:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    measured = [(tag, getattr(evaluation, name)) for tag, name in _SCALARS]
    scalars = [Summary.Value(tag=tag, simple_value=v) for tag, v in measured if v is not None]
    wall_time = started_s + evaluation.wall_s
    event = Event(wall_time=wall_time, step=evaluation.step, summary=Summary(value=scalars))
    return bytes(event.SerializeToString(deterministic=True))


def _record(data: bytes) -> bytes:
    """Frame one event as a TFRecord: length, its checksum, data, their checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checks[0] + data + checks[1]


def _update(run: RunDirectory, relative: str, data: bytes) -> None:
    """Bring an event file up to date.

    On a local disk what is missing is appended, because TensorBoard keeps the file open: it would
    go on reading the old one if another took its place. A half-written last record is completed
    the same way.
    """
    former = run.read_bytes(relative)
    if former == data:
        return
    if run.local_path is None or not former or not data.startswith(former):
        run.write_bytes(relative, data)
        return
    with Path(run.local_path, relative).open("ab") as stream:
        stream.write(data[len(former) :])


def _started_s(run: RunDirectory) -> float:
    """Read when the sweep was first started; 0, which is 1970, where nothing says so."""
    environment = run.read_json(RunDirectory.ENVIRONMENT) or {}
    runs = environment.get("runs") or [{}]
    started = runs[0].get("started")
    return datetime.fromisoformat(started).timestamp() if started else 0.0


def _path_safe(arm: str) -> str:
    """Write all but letters, digits and ``+-_.=`` as codes, so that arms stay apart."""
    safe = re.sub(r"[^\w+\-.=]", lambda match: f"%{ord(match.group()):02x}", arm, flags=re.ASCII)
    return f"%2e{safe[1:]}" if safe.startswith(".") else safe
