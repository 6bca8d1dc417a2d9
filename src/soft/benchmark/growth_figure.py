"""A figure of how something grows with size, on logarithmic axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soft.drawing import replace_figure

Curves = Mapping[str, Sequence[tuple[float, float]]]


def draw_growth(picture: Path, size: str, panels: Mapping[str, Curves]) -> None:
    """Draw a panel for each quantity, with a curve of (size, value) points for each name and a line of slope 1.

    Args:
        picture: path of the PNG.
        size: label of the horizontal axis.
        panels: curves by the label of their vertical axis.
    """
    figure = Figure(figsize=(5.5 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
        sizes = sorted({x for points in curves.values() for x, _ in points})
        lowest = min(y for points in curves.values() for _, y in points)
        linear = [lowest * x / sizes[0] / 2 for x in (sizes[0], sizes[-1])]
        axes.plot((sizes[0], sizes[-1]), linear, color="#9a9a9a", linestyle="--", linewidth=1, label="linear")
        axes.set(xscale="log", yscale="log", xlabel=size, ylabel=quantity)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
    replace_figure(picture, figure, dpi=150)
