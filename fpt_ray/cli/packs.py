"""The command ``verify-pack``."""

from __future__ import annotations

from typing import Annotated

import typer

from fpt_ray.cli.options import ERROR, OK, AsJson, Debug, Set, print_document, say
from fpt_ray.cli.sweeps import File


def verify_pack(
    file: File,
    set_: Set = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Trials to sample; default: two of every arm, at least 8."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="K", help="Updates of each trial.")] = 20,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest relative difference between losses.")
    ] = 1e-5,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train sampled trials in packs and alone, and print the largest differences."""
    from fpt_ray.config import load_sweep
    from fpt_ray.cores import prepare_cores

    sweep = load_sweep(file, set_ or ())
    prepare_cores()
    from fpt_ray.verify import verify_packs

    verification = verify_packs(sweep, trials, steps, tolerance, progress=say)
    print_document(verification, as_json)
    raise typer.Exit(OK if verification.equal else ERROR)
