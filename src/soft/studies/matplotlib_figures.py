"""Figures as PNG files for print, drawn by matplotlib."""

from pathlib import Path

from soft.drawing import replace_figure
from soft.studies.figures import COLOURS, Figure
from soft.studies.heat_map import HeatMap
from soft.studies.rows import show


def draw_figure(figure: Figure, path: Path) -> None:
    """Draw a figure into `path`, 1650 pixels wide."""
    sheet, axes = _sheet()
    for number, series in enumerate(figure.series):
        colour = COLOURS[number % len(COLOURS)]
        error = [value or 0.0 for value in series.error]
        axes.errorbar(
            series.x,
            series.y,
            yerr=error if any(error) and not figure.log_y else None,
            label=series.name,
            color=colour,
            marker="os^Dv<>P"[(number + number // len(COLOURS)) % 8],
            markersize=5,
            linestyle="--" if series.dashed else "-" if figure.lines else "none",
            capsize=3,
        )
    for number, (name, height) in enumerate(figure.references, start=len(figure.series)):
        axes.axhline(height, label=name, color=COLOURS[number % len(COLOURS)], linestyle="--", linewidth=1.2)
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    axes.set_title(figure.title, fontsize="medium")
    if figure.log_x:
        axes.set_xscale("log")
    elif figure.ticks:
        axes.set_xticks(figure.ticks)
    if figure.log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    named = len([series for series in figure.series if series.name]) + len(figure.references)
    if named > 6:  # they would cover the points
        sheet.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="x-small")
    elif named:
        axes.legend(frameon=False, fontsize="small")
    replace_figure(path, sheet, dpi=300)


def draw_heat_map(heat_map: HeatMap, path: Path) -> None:
    """Draw a heat map into `path`, 1650 pixels wide, with the top-1 written into each cell."""
    sheet, axes = _sheet()
    low, high = heat_map.limits
    means = [[float("nan") if mean is None else mean for mean in line] for line in heat_map.means]
    image = axes.imshow(means, cmap="viridis", vmin=low, vmax=high, origin="lower", aspect="auto")
    for line, cells in enumerate(heat_map.cells):
        for column, cell in enumerate(cells):
            if cell is not None:
                dark = cell.mean < (low + high) / 2
                text = f"{cell.mean:.1f}" + (f"\n± {cell.std:.1f}" if cell.std else "")
                colour = "white" if dark else "black"
                axes.text(column, line, text, ha="center", va="center", color=colour, fontsize="small")
    axes.set_xticks(range(len(heat_map.x)), map(show, heat_map.x))
    axes.set_yticks(range(len(heat_map.y)), map(show, heat_map.y))
    axes.set(xlabel=heat_map.x_label, ylabel=heat_map.y_label)
    axes.set_title("\n".join(filter(None, (heat_map.title, heat_map.subtitle))), fontsize="medium")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    sheet.colorbar(image, label="top-1 (%)").outline.set_visible(False)
    replace_figure(path, sheet, dpi=300)


def _sheet():
    # Without pyplot: no display, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=(5.5, 3.8), layout="constrained")
    FigureCanvasAgg(sheet)
    return sheet, sheet.subplots()
