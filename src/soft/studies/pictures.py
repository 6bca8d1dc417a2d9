"""A figure as a PNG for print, by matplotlib."""

from pathlib import Path

from soft.studies.figures import COLOURS, Figure


def draw(figure: Figure, path: Path) -> None:
    """Writes `path`, 1650 pixels wide."""
    # Without pyplot: no display, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=(5.5, 3.8), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    for number, series in enumerate(figure.series):
        colour = COLOURS[number % len(COLOURS)]
        error = [value or 0.0 for value in series.error]
        axes.errorbar(
            series.x,
            series.y,
            yerr=error if any(error) and not figure.log_y else None,
            label=series.name,
            color=colour,
            marker="os^Dv<>P"[number % 8],
            markersize=5,
            linestyle="-" if figure.lines else "none",
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
    if any(series.name for series in figure.series) or figure.references:
        axes.legend(frameon=False, fontsize="small")
    sheet.savefig(path, dpi=300)
