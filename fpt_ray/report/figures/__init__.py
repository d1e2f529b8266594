"""The figures of the report, each as SVG and PNG; the same records give the same bytes."""

from fpt_ray.report.figures.attention import draw_attention
from fpt_ray.report.figures.curves import draw_curves
from fpt_ray.report.figures.search import draw_search
from fpt_ray.report.figures.style import FOLDER, write_figure

__all__ = ["FOLDER", "draw_attention", "draw_curves", "draw_search", "write_figure"]
