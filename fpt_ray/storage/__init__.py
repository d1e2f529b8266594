"""Run directories: where a sweep's results live, and who may write them."""

from fpt_ray.storage.lease import Lease
from fpt_ray.storage.run_directory import RunDirectory

__all__ = ["Lease", "RunDirectory"]
