"""Write everything that a reader of a run directory opens; slow imports wait until used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fpt_ray.records import AttentionMaps, SweepRecord, load_sweep_record
from fpt_ray.report.document import Report
from fpt_ray.storage import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fpt_ray.report.results import SweepResult

SUMMARY = "report/summary.md"


def write_report(run: RunDirectory) -> Report:
    """Build the whole report of a finished or running sweep from its run directory.

    Args:
        run: the run directory, read as it is now.

    Raises:
        RunDirectoryError: it holds no sweep, is damaged, or cannot be written.
    """
    from fpt_ray.report.fairness import check_fairness
    from fpt_ray.report.headline import headline
    from fpt_ray.report.published import beside_published
    from fpt_ray.report.results import collect

    record = load_sweep_record(run)
    write_live(run, record)
    result = collect(record)
    _write_figures(run, record, result)
    _write_summary(run, record, result)
    return Report(
        result,
        tuple(headline(result)),
        check_fairness(record, result),
        beside_published(record, result),
    )


def add_attention(run: RunDirectory, maps: Sequence[AttentionMaps]) -> None:
    """Add attention maps to a report that is written; later reports link them too.

    Args:
        run: the run directory.
        maps: of one trial an arm.
    """
    from fpt_ray.report.attention import write_attention
    from fpt_ray.report.results import collect

    write_attention(run, maps)
    record = load_sweep_record(run)
    _write_summary(run, record, collect(record))


def write_live(run: RunDirectory, record: SweepRecord, previous: SweepRecord | None = None) -> None:
    """Bring up to date what people watch while a sweep runs: tables, studies, event files.

    Args:
        run: the run directory.
        record: what it holds now.
        previous: what it held at the last call, which spares reading the files of trials that are
            the same.
    """
    from fpt_ray.report.studies import write_studies
    from fpt_ray.report.tables import write_tables

    write_tables(run, record)
    write_studies(run, record)
    if "tensorboard" in record.resolved["loggers"]:
        from fpt_ray.report.tensorboard import write_tensorboard

        write_tensorboard(run, record, previous)


def _write_figures(run: RunDirectory, record: SweepRecord, result: SweepResult) -> None:
    from fpt_ray.report.figures import draw_curves, draw_search, write_figure

    blocks = {block.task: [row.arm for row in block.arms] for block in result.blocks}
    drawings: dict[str, Callable[[], Figure]] = {
        "search": lambda: draw_search(record, blocks),
        "curves": lambda: draw_curves(record),
    }
    for name in _figures(record):
        write_figure(run, name, drawings[name])


def _figures(record: SweepRecord) -> list[str]:
    """Name what there is to draw; without a search there is only the figure of learning curves."""
    return ["search", "curves"] if record.space else ["curves"]


def _write_summary(run: RunDirectory, record: SweepRecord, result: SweepResult) -> None:
    from fpt_ray.report.attention import drawn_attention
    from fpt_ray.report.summary import summarize_sweep

    environment = run.read_json(RunDirectory.ENVIRONMENT)
    attention = drawn_attention(run, record)
    text = summarize_sweep(record, result, _figures(record), environment, attention)
    run.write_bytes(SUMMARY, text.encode())
