"""One HTML page with interactive figures, for a browser without a network."""

import html
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from soft.studies.figures import COLOURS, Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } p, li { color: #444; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #888; }
code { background: #f4f4f4; padding: .1em .3em; overflow-wrap: anywhere; }
"""


def write_page(path: Path, title: str, paragraphs: Sequence[str], table: str, figures: Sequence[Figure]) -> None:
    """Writes `path`; everything, plotly's code too, is in it.

    Args:
        paragraphs: texts above the table; `code` stands in backquotes.
        table: HTML.
    """
    plots = [
        _plot(figure).to_html(
            full_html=False,
            include_plotlyjs=number == 0,
            include_mathjax=False,
            default_height="460px",
            config={"displaylogo": False, "responsive": True},
        )
        for number, figure in enumerate(figures)
    ]
    texts = "\n".join(f"<p>{_mark_code(text)}</p>" for text in paragraphs)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        # Browsers ask for an icon unless there is one.
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n{texts}\n'
        f'<div class="wide">{table}</div>\n' + "\n".join(plots) + "\n</body></html>\n",
        encoding="utf-8",
    )


def _mark_code(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _plot(figure: Figure) -> go.Figure:
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
