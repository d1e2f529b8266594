"""The command line: ``fpt-ray run | plan | validate | report | data | verify-pack``.

Nothing here imports torch, ray or transformers until a command needs them, so that help and
validation answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from fpt_ray.cli import data, packs, sweeps
from fpt_ray.cli.options import ERROR, INTERRUPTED, OK, USAGE, say
from fpt_ray.errors import FptRayError, SweepFileError
from fpt_ray.imports import end_quickly

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fair ablations of frozen pretrained transformers on Ray.",
)
for command in (sweeps.run, sweeps.plan, sweeps.validate, sweeps.report):
    app.command()(command)
app.command()(packs.verify_pack)
app.add_typer(data.app, name="data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn whatever happens into an exit code.

    Args:
        arguments: the command line without the program's name; None reads ``sys.argv``.

    Returns:
        0 all done; 1 failed trials, an arm without a finalist, or an error; 2 bad usage or sweep
        file; 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end_quickly()
    try:
        app(args=given, prog_name="fpt-ray")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except FptRayError as error:
        if "--debug" in given:
            raise
        say(f"error: {error}" if not isinstance(error, SweepFileError) else str(error))
        return USAGE if isinstance(error, SweepFileError) else ERROR
    return OK
