"""The report of a run directory, from its log alone: statistics, tables, figures, event files."""

from fpt_ray.report.document import Report
from fpt_ray.report.write import add_attention, write_live, write_report

__all__ = ["Report", "add_attention", "write_live", "write_report"]
