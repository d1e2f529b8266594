"""Ray Data, as everything here uses it: one task an item, results in the items' order.

It is imported by who uses it: it takes as long as a third of torch, and many sweeps need none.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import ray
from ray.exceptions import RayError

from fpt_ray.data.nodes import pinned
from fpt_ray.errors import DataError, FptRayError

if TYPE_CHECKING:
    import ray.data

T = TypeVar("T")

MAX_ATTEMPTS = 3
"""How often a machine takes up work whose process has died there."""

BLOCK_BYTES = 16 * 2**20
"""Ray Data cuts what a task yields into blocks of about this size."""


def dataset(
    items: Sequence[T],
    make: Callable[[T], Iterator[pa.Table]],
    max_cpus: float | None = None,
    node: str | None = None,
) -> ray.data.Dataset:
    """Describe a data set that one task an item makes; nothing runs until it is read.

    Args:
        items: what the tasks get; picklable.
        make: yields an item's tables; runs in a process of the cluster.
        max_cpus: tasks that run at a time; None for as many as there are CPUs.
        node: the only node that can do the work; None for any.
    """
    import ray.data

    _settle(max_cpus)
    items = tuple(items)

    def work(numbers: pa.Table) -> Iterator[pa.Table]:
        with _attempt():
            for number in numbers["id"].to_pylist():
                yield from make(items[number])

    source = ray.data.range(len(items), override_num_blocks=len(items))
    return source.map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        **pinned(node),
    )


def tables(data: ray.data.Dataset) -> Iterator[pa.Table]:
    """Run a data set and yield its tables in order, as they lie in the object store."""
    with errors_told():
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Raise our own errors as they were raised in the cluster, and Ray's as a DataError."""
    from ray.data.exceptions import RayDataUserCodeException, SystemException

    try:
        yield
    except (RayError, RayDataUserCodeException, SystemException) as error:
        ours = ours_behind(error)
        if ours is not None:
            raise ours from error
        raise DataError(
            f"a process of Ray that made data failed: {_first_line(error)}",
            fix="look at the raw data, and at the memory of the machines; --debug shows more",
        ) from error


def ours_behind(error: BaseException) -> FptRayError | None:
    """Find the error of ours that Ray has wrapped."""
    behind: BaseException | None = error
    while behind is not None:
        # Ray's wrapper takes on the class of what it wraps, but its text is a traceback.
        inner = getattr(behind, "cause", behind)
        if isinstance(inner, FptRayError):
            return inner
        behind = behind.__cause__ or behind.__context__
    return None


@contextlib.contextmanager
def _attempt() -> Iterator[None]:
    """Give up work whose process died too often: Ray Data alone would try for ever in silence.

    Raises:
        DataError: it is the attempt after the last.
    """
    task = ray.get_runtime_context().get_task_id()
    record = Path(tempfile.gettempdir()) / f"fpt_ray-{task}.attempts"
    with record.open("ab") as attempts:
        attempts.write(b".")
        number = attempts.tell()
    try:
        if number > MAX_ATTEMPTS:
            raise DataError(
                f"the process that made data died {MAX_ATTEMPTS} times",
                fix="look for damage in the raw data, and at the memory of the machines",
            )
        yield
    finally:
        record.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or repr(error)
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def _settle(max_cpus: float | None) -> None:
    """Set Ray Data up in this process."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = True
    if max_cpus is not None:
        context.execution_options.resource_limits = ray.data.ExecutionResources(cpu=max_cpus)
    # It would log the traceback of every error that its caller reports in a line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
