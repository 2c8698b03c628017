"""The chart of a run: what each contender takes, as a multiple of what shardlog does."""

from __future__ import annotations

from importlib import import_module
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def draw(cases: list[dict[str, Any]], file: Path) -> None:
    """Write an SVG: a panel a case, a bar a contender, from the fastest to the slowest."""
    matplotlib = import_module("matplotlib")  # its types are in its own environment
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "shardlog"  # the same run, the same file
    pyplot = import_module("matplotlib.pyplot")

    figure, panels = pyplot.subplots(
        len(cases),
        1,
        figsize=(9, 1.2 + sum(_height(case) for case in cases)),
        height_ratios=[_height(case) for case in cases],
        squeeze=False,
        layout="constrained",
    )
    for case, panel in zip(cases, panels[:, 0], strict=True):
        names = list(case["values"])
        middles = [median(case["values"][name]) for name in names]
        colours = ["tab:orange" if name.startswith("shardlog") else "tab:gray" for name in names]
        bars = panel.barh(names, middles, color=colours)
        panel.bar_label(bars, labels=[*map(_label, middles)], padding=3)
        panel.set_title(
            f"{case['number']}. {case['title']}, {case['unit']}", loc="left", fontsize=10
        )
        panel.invert_yaxis()
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _height(case: dict[str, Any]) -> float:
    return 0.6 + 0.28 * len(case["values"])
