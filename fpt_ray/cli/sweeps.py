"""The commands ``run``, ``plan``, ``validate`` and ``report``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fpt_ray.cli.options import (
    ERROR,
    INTERRUPTED,
    OK,
    USAGE,
    Address,
    AsJson,
    Debug,
    Set,
    print_document,
    say,
)
from fpt_ray.errors import FptRayError, RunDirectoryError, SweepFileError
from fpt_ray.imports import large_imports

if TYPE_CHECKING:
    from fpt_ray.config import Sweep
    from fpt_ray.records import SweepRecord
    from fpt_ray.storage import RunDirectory

File = Annotated[Path, typer.Argument(help="The sweep file.", show_default=False)]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="DIR_OR_URI",
        envvar="FPT_RAY_STORAGE",
        help="Where run directories lie, instead of the file's storage.",
    ),
]


def run(
    file: File,
    set_: Set = None,
    storage: Storage = None,
    address: Address = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a sweep, or go on with it where it stopped; ends with the report."""
    from fpt_ray.config import load_sweep

    sweep = load_sweep(file, set_ or ())
    directory = _run_directory(sweep, storage)
    directory.probe()
    signal.signal(signal.SIGTERM, _interrupt)
    with large_imports():
        from fpt_ray.orchestrate import Options, run_sweep
        from fpt_ray.report import write_report

    options = Options(
        file=str(file),
        text=file.read_bytes(),
        console=Console(stderr=True, soft_wrap=True, markup=False, highlight=False),
        address=address,
        debug=debug,
        on_refresh=_refresher(directory),
    )
    try:
        record = run_sweep(sweep, directory, options)
    except KeyboardInterrupt:
        say(f"interrupted; run the same command to go on ({directory.uri})")
        raise typer.Exit(INTERRUPTED) from None
    report = write_report(directory)
    print_document(report, as_json)
    say(f"report: {directory.locate('report/summary.md')}")
    raise typer.Exit(_verdict(record))


def plan(file: File, set_: Set = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show every arm with its trained parameters, trials, rungs and steps; starts nothing."""
    from fpt_ray.config import load_sweep

    sweep = load_sweep(file, set_ or ())
    with large_imports():
        from fpt_ray.plan import plan_sweep

    print_document(plan_sweep(sweep), as_json)


def validate(
    files: Annotated[list[Path], typer.Argument(help="Sweep files.", show_default=False)],
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Check sweep files without starting anything."""
    from fpt_ray.config import load_sweep

    code = OK
    for file in files:
        try:
            sweep = load_sweep(file, set_ or ())
        except SweepFileError as error:
            say(str(error))
            code = USAGE
        else:
            sys.stdout.write(f"{file}: valid, {len(sweep.arms)} arms\n")
    raise typer.Exit(code)


def report(
    run_dir: Annotated[str, typer.Argument(help="STORAGE/NAME of a sweep, or its URI.")],
    attention: Annotated[
        bool, typer.Option("--attention", help="Also draw where each arm's best finalist looks.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Validation sequences that maps average over.")
    ] = 16,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Rebuild the report of a finished or running sweep."""
    from fpt_ray.report import write_report
    from fpt_ray.storage import RunDirectory

    directory = RunDirectory(run_dir)
    print_document(write_report(directory), as_json)
    code = _draw_attention(directory, samples) if attention else OK
    say(f"report: {directory.locate('report/summary.md')}")
    raise typer.Exit(code)


def _draw_attention(directory: RunDirectory, num_samples: int) -> int:
    """Draw the maps of every arm that has some; an arm that has none leaves the others alone."""
    from fpt_ray.attention import attention_maps
    from fpt_ray.records import load_sweep_record
    from fpt_ray.report import add_attention

    record = load_sweep_record(directory)
    maps, code = [], OK
    for arm in record.arms:
        if "backbone" not in arm.settings["model"]:
            say(f"no attention maps of {arm.name}: its model is {arm.settings['model']['name']}")
            continue
        try:
            maps.append(attention_maps(directory, record, arm.name, num_samples))
        except FptRayError as error:
            say(f"error: no attention maps of {arm.name}: {error}")
            code = ERROR
    add_attention(directory, maps)
    return code if maps else ERROR


def _interrupt(number: int, frame: FrameType | None) -> None:
    # `ray job stop` and Kubernetes send SIGTERM and kill a few seconds later; everything is saved
    # already.
    raise KeyboardInterrupt


def _run_directory(sweep: Sweep, storage: str | None) -> RunDirectory:
    from fpt_ray.storage import RunDirectory

    place = storage or sweep.storage
    is_relative = "://" not in place and not Path(place).expanduser().is_absolute()
    if is_relative and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise RunDirectoryError(
            "a relative storage inside a Ray job would vanish with the job's working directory",
            where=f"storage: {place}",
            fix="give an absolute path that all nodes share, or a URI: --storage /mnt/runs, "
            "--storage s3://BUCKET/runs, or the variable FPT_RAY_STORAGE",
        )
    return RunDirectory.below(place, sweep.name)


def _refresher(directory: RunDirectory) -> Callable[[SweepRecord], None]:
    """Make a function that refreshes what viewers look at, and rewrites only what changed."""
    from fpt_ray.report import write_live

    previous: SweepRecord | None = None

    def refresh(record: SweepRecord) -> None:
        nonlocal previous
        write_live(directory, record, previous)
        previous = record

    return refresh


def _verdict(record: SweepRecord) -> int:
    failed = any(t.status == "failed" for t in record.trials)
    complete = all(
        len(record.finalists(arm.name)) == len(record.final_seeds) for arm in record.arms
    )
    return OK if complete and not failed else ERROR
