"""Load a sweep file: read it, apply ``--set``, check everything, report all problems at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fpt_ray.config.arm_checks import check_arms, check_repeated_arms, check_tuned_training
from fpt_ray.config.checks import CHECKS
from fpt_ray.config.document import Complaint, Entry, Node
from fpt_ray.config.files import read_text
from fpt_ray.config.findings import Located, Origin, locate
from fpt_ray.config.overrides import apply_override
from fpt_ray.config.repair import Draft
from fpt_ray.config.sweep import Sweep
from fpt_ray.config.yaml_source import parse_yaml
from fpt_ray.errors import SweepFileError


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Load and check a sweep file.

    Args:
        path: the YAML file.
        overrides: ``KEY=VALUE`` texts that change it, the last one winning.

    Returns:
        The sweep, valid in every arm.

    Raises:
        SweepFileError: with every problem of the file and of the overrides, each with its place and
            its fix.
    """
    document, complaints = parse_yaml(read_text(path), str(path))
    if not isinstance(document.content, dict):
        raise SweepFileError((_not_a_mapping(document).problem(),))
    for text in overrides:
        document, more = apply_override(document, text)
        complaints += more
    draft = Draft(document, path.stem)
    unread = {complaint.place for complaint in complaints}
    complaints += [each for each in _complain(draft) if each.place not in unread]
    if complaints or draft.sweep is None:
        complaints.sort(key=lambda complaint: complaint.place.order)
        raise SweepFileError(tuple(dict.fromkeys(each.problem() for each in complaints)))
    return draft.sweep


def _not_a_mapping(document: Node) -> Complaint:
    what = "the file is empty" if document.content is None else "the file is no mapping of keys"
    fix = "start with the lines  task: {name: bit_xor}  and  model: {backbone: minilm-l6, trained: "
    return Complaint(document.place, what, f"{fix}[input, output, layer_norm]}}")


def _complain(draft: Draft) -> Iterator[Complaint]:
    """Yield everything that is wrong with a draft, leaving out what rests on guesses."""
    file = Entry(draft.document.place, draft.document)
    for located in draft.located:
        yield _complaint(located)
    if draft.sweep is None:
        return
    for located, arms in _check(draft.sweep, file):
        if not located.finding.rests_on(draft.doubtful):
            yield _complaint(located, arms)


def _check(sweep: Sweep, file: Entry) -> Iterator[tuple[Located, tuple[str, ...]]]:
    for check in (*CHECKS, check_repeated_arms):
        for finding in check(sweep):
            yield locate(finding, [Origin((), file)]), ()
    for located in check_tuned_training(sweep, file):
        yield located, ()
    yield from check_arms(sweep, file)


def _complaint(located: Located, arms: tuple[str, ...] = ()) -> Complaint:
    rest = f" and {len(arms) - 2} more" if len(arms) > 2 else ""
    noun = "arms" if len(arms) > 1 else "arm"
    some = f" ({noun} {', '.join(arms[:2])}{rest})" if arms else ""
    return Complaint(located.place, f"{located.finding.what}{some}", located.finding.fix)
