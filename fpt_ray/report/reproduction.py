"""How to get the same numbers again: commands for the sweep and each row, and versions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fpt_ray.records import ArmRecord, SweepRecord
from fpt_ray.report.wording import code, markdown_table

_PLAIN_WORD = re.compile(r"[A-Za-z][\w./-]*")
_YAML_WORDS = {"true", "false", "null"}


def reproduction(record: SweepRecord, environment: Mapping[str, Any] | None) -> str:
    """Write the section: the command of the whole sweep, of each row, and the environment.

    Args:
        record: the sweep.
        environment: ``environment.json``, or None where there is none.
    """
    runs = (environment or {}).get("runs") or []
    fallback = f"python -m fpt_ray.sweep sweep.yaml --set {shlex.quote(f'name={record.name}')}"
    command = runs[-1].get("command", fallback) if runs else fallback
    lines = [
        "`sweep.yaml` beside this folder is the sweep file as it was given. The whole sweep:",
        f"```sh\n{command}\n```",
    ]
    flags = {arm.name: pins for arm in record.arms if (pins := _pins(record, arm)) is not None}
    if len(flags) == len(record.arms):
        rows = [[code(arm), code(f"{command} {pins}")] for arm, pins in flags.items()]
        lines += ["One row alone, without its search:", markdown_table(["arm", "command"], rows)]
    else:
        lines.append("The settings of each row are in `resolved.json`.")
    lines.extend(_environment(run) for run in runs[-1:])
    return "\n\n".join(lines)


def _pins(record: SweepRecord, arm: ArmRecord) -> str | None:
    """Write the ``--set`` flags that make a sweep of this arm alone, as it was chosen.

    None for an arm without a winner.
    """
    winner = record.winner(arm.name)
    if record.space and winner is None:
        return None
    pinned: dict[str, Any] = {
        "name": f"{record.name}-{re.sub(r'[^A-Za-z0-9]+', '-', arm.name).strip('-') or 'arm'}",
        "compare": {},
        "reference": None,
        "tune": None,
    }
    if record.resolved.get("published"):
        # Its arms have names that this sweep of one arm lacks.
        pinned["published"] = []
    for section in arm.settings:
        pinned |= _varied(section, arm, record.arms)
    pinned |= winner.values if winner is not None else {}
    return " ".join(f"--set {shlex.quote(f'{key}={_yaml(v)}')}" for key, v in pinned.items())


def _varied(section: str, arm: ArmRecord, arms: Sequence[ArmRecord]) -> dict[str, Any]:
    """List what an arm sets otherwise than others; a section with other keys is set as a whole."""
    own = {section: arm.settings[section]}
    others = [_flat({section: each.settings[section]}) for each in arms]
    flat = _flat(own)
    if any(other.keys() != flat.keys() for other in others):
        return own
    return {key: value for key, value in flat.items() if any(o[key] != value for o in others)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _yaml(value: Any) -> str:
    """Write a value as YAML on one line: JSON, without quotes around plain words."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value) and value not in _YAML_WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _environment(run: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())
    devices = json.dumps(run.get("devices", {}), ensure_ascii=False)
    return (
        f"Environment of the last start ({run.get('started', 'time unknown')}): {versions}; "
        f"commit {run.get('commit') or 'unknown'}; devices {code(devices)}."
    )
