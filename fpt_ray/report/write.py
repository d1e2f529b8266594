"""Write everything that a reader of a run directory opens; slow imports wait until used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fpt_ray.records import SweepRecord, load_sweep_record
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
    from fpt_ray.report.headline import headline
    from fpt_ray.report.results import collect
    from fpt_ray.report.summary import summarize_sweep

    record = load_sweep_record(run)
    write_live(run, record)
    result = collect(record)
    figures = _write_figures(run, record, result)
    environment = run.read_json(RunDirectory.ENVIRONMENT)
    run.write_bytes(SUMMARY, summarize_sweep(record, result, figures, environment).encode())
    return Report(result, tuple(headline(result)))


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


def _write_figures(run: RunDirectory, record: SweepRecord, result: SweepResult) -> list[str]:
    """Draw what there is to draw; without a search there is only the figure of learning curves."""
    from fpt_ray.report.figures import draw_curves, draw_search, write_figure

    blocks = {block.task: [row.arm for row in block.arms] for block in result.blocks}
    drawings: dict[str, Callable[[], Figure]] = {"curves": lambda: draw_curves(record)}
    if record.space:
        drawings = {"search": lambda: draw_search(record, blocks), **drawings}
    for name, draw in drawings.items():
        write_figure(run, name, draw)
    return list(drawings)
