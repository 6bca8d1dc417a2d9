"""Figures for a page, interactive, by plotly."""

import numpy as np
import plotly.graph_objects as go

from soft.analysis.class_tables import Confusion
from soft.data.classes import short_name
from soft.studies.figures import COLOURS, Figure
from soft.studies.heat_map import HeatMap
from soft.studies.rows import show

MAX_MARKERS = 60  # points of a line that are marked one by one
_LONGEST = 22  # characters of a class's name beside a matrix


def plot_figure(figure: Figure) -> go.Figure:
    """Build the interactive form of a figure."""
    plot = go.Figure()
    for number, series in enumerate(figure.series):
        error = [value or 0.0 for value in series.error]
        colour = COLOURS[number % len(COLOURS)]
        markers = "lines+markers" if len(series.x) <= MAX_MARKERS and not series.dashed else "lines"
        plot.add_scatter(
            x=series.x,
            y=series.y,
            name=series.name,
            mode=markers if figure.lines else "markers",
            marker={
                "color": colour,
                "symbol": number // len(COLOURS),
                "size": 9 if len(series.x) <= MAX_MARKERS / 4 else 5,
            },
            line={"color": colour, "dash": "dash" if series.dashed else "solid"},
            error_y={"array": error, "visible": any(error) and not figure.log_y},
            showlegend=bool(series.name),
        )
    ends = (figure.series[0].x[0], figure.series[0].x[-1])
    for number, (name, height) in enumerate(figure.references, start=len(figure.series)):
        line = {"color": COLOURS[number % len(COLOURS)], "dash": "dash"}
        plot.add_scatter(x=ends, y=(height, height), name=name, mode="lines", line=line)
    plot.update_layout(
        title=figure.title,
        xaxis={"title": figure.x_label, "type": "log" if figure.log_x else None, "tickvals": figure.ticks},
        yaxis={"title": figure.y_label, "type": "log" if figure.log_y else None, "exponentformat": "power"},
        template="plotly_white",
    )
    return plot


def plot_heat_map(heat_map: HeatMap) -> go.Figure:
    """Build the interactive form of a heat map, with the top-1 written into each cell."""
    texts = [
        ["" if cell is None else f"{cell.mean:.1f}" + (f"<br>± {cell.std:.1f}" if cell.std else "") for cell in line]
        for line in heat_map.cells
    ]
    low, high = heat_map.limits
    plot = go.Figure(
        go.Heatmap(
            # Values are given as texts, since the distance between two of them says nothing.
            x=[show(value) for value in heat_map.x],
            y=[show(value) for value in heat_map.y],
            z=heat_map.means,
            text=texts,
            texttemplate="%{text}",
            hovertemplate=f"{heat_map.x_label} %{{x}}<br>{heat_map.y_label} %{{y}}<br>%{{text}} %<extra></extra>",
            zmin=low,
            zmax=high,
            colorscale="Viridis",
            colorbar={"title": "top-1 (%)"},
            xgap=1,
            ygap=1,
        )
    )
    subtitle = {"text": heat_map.subtitle} if heat_map.subtitle else None
    plot.update_layout(
        title={"text": heat_map.title, "subtitle": subtitle},
        xaxis={"title": heat_map.x_label, "type": "category"},
        yaxis={"title": heat_map.y_label, "type": "category"},
        template="plotly_white",
    )
    return plot


def plot_confusion(matrix: Confusion) -> go.Figure:
    """Build the interactive form of a confusion matrix: the colour is the share of the class's images."""
    shares = matrix.counts / np.maximum(matrix.images, 1)[:, None]
    plot = go.Figure(
        go.Heatmap(
            x=list(range(len(matrix.columns))),
            y=list(range(len(matrix.rows))),
            z=shares,
            text=np.where(matrix.counts > 0, matrix.counts.astype(str), ""),
            texttemplate="%{text}",
            customdata=[[f"{row} as {column}" for column in matrix.columns] for row in matrix.rows],
            hovertemplate="%{customdata}<br>%{text} images, %{z:.1%} of the class<extra></extra>",
            zmin=0,
            zmax=1,
            colorscale="Blues",
            colorbar={"title": "share of<br>the class", "tickformat": ".0%", "thickness": 14},
            xgap=1,
            ygap=1,
        )
    )
    plot.update_layout(
        xaxis={"title": "answer", **_name_axis(matrix.columns), "side": "bottom"},
        yaxis={"title": "class", **_name_axis(matrix.rows), "autorange": "reversed"},
        margin={"t": 30},
        template="plotly_white",
    )
    return plot


def _name_axis(names: list[str]) -> dict[str, object]:
    """Return an axis with a name at each whole number; two classes may have the same name."""
    shown = [short_name(name) for name in names]
    shown = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in shown]
    return {"tickvals": list(range(len(names))), "ticktext": shown, "showgrid": False, "zeroline": False}
