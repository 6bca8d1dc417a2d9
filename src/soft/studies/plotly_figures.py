"""Figures for a page, interactive, by plotly."""

import plotly.graph_objects as go

from soft.studies.figures import COLOURS, Figure
from soft.studies.heat_map import HeatMap
from soft.studies.rows import show


def plot_figure(figure: Figure) -> go.Figure:
    """Build the interactive form of a figure."""
    plot = go.Figure()
    for number, series in enumerate(figure.series):
        error = [value or 0.0 for value in series.error]
        plot.add_scatter(
            x=series.x,
            y=series.y,
            name=series.name,
            mode="lines+markers" if figure.lines else "markers",
            marker={"color": COLOURS[number % len(COLOURS)], "size": 9},
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
            # As texts, since the distance between two values says nothing.
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
