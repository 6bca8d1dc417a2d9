"""One HTML page with tables and interactive figures, for a browser without a network."""

import html
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from soft.studies.figures import Figure
from soft.studies.heat_map import HeatMap
from soft.studies.plotly_figures import plot_figure, plot_heat_map
from soft.studies.table_formats import html_table
from soft.studies.tables import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } p, li { color: #444; }
.fault { border-left: 4px solid #d55e00; background: #fdf2e9; padding: .6em 1em; color: #222; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #888; }
code { background: #f4f4f4; padding: .1em .3em; overflow-wrap: anywhere; }
"""
# On a phone a legend beside the plot leaves no room for the plot.
_NARROW = """
if (matchMedia("(max-width: 700px)").matches)
  for (const plot of document.querySelectorAll(".plotly-graph-div"))
    Plotly.relayout(plot, {"legend.orientation": "h", "legend.y": -0.25, "title.font.size": 13,
                           "margin.l": 55, "margin.r": 10});
"""


def write_page(
    path: Path,
    title: str,
    faults: Sequence[str],
    paragraphs: Sequence[str],
    blocks: Sequence[Table | Figure | HeatMap],
) -> None:
    """Write the page to `path`, with everything in it, plotly's code too.

    Args:
        faults: sentences that stand out above everything else.
        paragraphs: texts above the blocks; `code` stands in backquotes.
        blocks: tables and figures in their order; a table with the page's own title gets no heading.
    """
    parts = [f'<p class="fault">{_mark_code(text)}</p>' for text in faults]
    parts += [f"<p>{_mark_code(text)}</p>" for text in paragraphs]
    library = True
    for block in blocks:
        if isinstance(block, Table):
            parts += _table_parts(block, heading=block.title != title)
        else:
            plot = plot_heat_map(block) if isinstance(block, HeatMap) else plot_figure(block)
            parts.append(_plot_html(plot, library))
            library = False
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Browsers ask for an icon unless there is one.
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n'
        + "\n".join(parts)
        + ("" if library else f"\n<script>{_NARROW}</script>")
        + "\n</body></html>\n",
        encoding="utf-8",
    )


def _table_parts(table: Table, heading: bool) -> list[str]:
    notes = [f"<p>{_mark_code(text)}</p>" for text in table.notes]
    head = [f"<h2>{html.escape(table.title)}</h2>"] if heading else []
    return [*head, *notes, f'<div class="wide">{html_table(table.columns)}</div>']


def _plot_html(plot: go.Figure, library: bool) -> str:
    return plot.to_html(
        full_html=False,
        include_plotlyjs=library,
        include_mathjax=False,
        default_height="460px",
        config={"displaylogo": False, "responsive": True},
    )


def _mark_code(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
