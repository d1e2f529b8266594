"""Draw what ``packing.py`` measured: trial-steps a second against the number of trials in a pack.

python benchmarks/packing_figure.py [RESULT.json] [FIGURE.svg]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from fpt_ray.engine.sizing import knee
from fpt_ray.report.figures.style import SETTINGS

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "packing_cpu.json"
FIGURE = ROOT / "docs" / "packs.svg"
OURS = "#0072B2"
OTHERS = {"processes": ("s", "#D55E00"), "copies": ("^", "#009E73"), "vmap": ("v", "#CC79A7")}
LABELS = {
    "processes": "as many processes",
    "copies": "stacked copies (torch.func.vmap)",
    "vmap": "one copy (torch.func.vmap)",
}


def draw_case(axes: Axes, name: str, case: Mapping[str, Any]) -> None:
    """Draw one case: packs as a line, everything else beside it."""
    rates: dict[str, dict[int, float]] = {}
    for contestant, found in case["contestants"].items():
        kind, _, number = contestant.partition(" ")
        rates.setdefault(kind, {})[int(number or 1)] = found["trial_steps_per_s"]
    packs = rates["pack"]
    axes.plot(packs.keys(), packs.values(), "o-", color=OURS, label="pack")
    axes.axhline(rates["alone"][1], color="black", linestyle="--", label="plain loop, one trial")
    for kind, (marker, color) in OTHERS.items():
        found = rates.get(kind, {})
        axes.plot(found.keys(), found.values(), marker, color=color, label=LABELS[kind])
    last = knee(packs)
    axes.plot(last, packs[last], "o", markersize=11, mfc="none", color=OURS)
    axes.annotate(
        "stops paying", (last, packs[last]), (0, 9), textcoords="offset points", ha="center"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(packs), [str(size) for size in packs])
    axes.set_ylim(0, 1.2 * max(packs.values()))
    task, _, rest = name.partition("-")
    backbone, _, batch_size = rest.rpartition("-")
    axes.set_title(f"{task}, {backbone}, batch {batch_size}")
    axes.set_xlabel("trials in a pack")


def main() -> None:
    """Draw all cases of a result in fp32 beside each other."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULT
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else FIGURE
    result = json.loads(source.read_text(encoding="utf-8"))
    cases = result["cases"]
    mpl.rcParams.update(SETTINGS)
    figure, every = plt.subplots(1, len(cases), figsize=(2.6 * len(cases), 2.8), squeeze=False)
    for axes, (name, case) in zip(every[0], cases.items(), strict=True):
        draw_case(axes, name, case["fp32"])
    every[0][0].set_ylabel("trial-steps a second")
    handles, labels = every[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(target, metadata={"Date": None})
    print(target)


if __name__ == "__main__":
    main()
