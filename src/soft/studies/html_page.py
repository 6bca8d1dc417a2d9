"""One HTML page with tables and interactive figures, for a browser without a network."""

import base64
import html
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from soft.analysis.class_tables import Confusion
from soft.studies.figures import Figure
from soft.studies.heat_map import HeatMap
from soft.studies.page_blocks import Block, Facts, Listing, Picture, Section
from soft.studies.plotly_figures import plot_confusion, plot_figure, plot_heat_map
from soft.studies.table_formats import html_table
from soft.studies.tables import Table
from soft.writing import replace_text

_STYLE = """
:root { color-scheme: light dark; --text: #222; --soft: #444; --line: #ddd; --head: #888; --code: #f4f4f4;
        --fault: #fdf2e9; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e4e4; --soft: #c4c4c4; --line: #3c3c3c; --head: #8a8a8a;
        --code: #2a2a2a; --fault: #3a2a1c; --ground: #181818; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em; color: var(--text);
       background: var(--ground); }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } h3 { font-size: 1em; margin-top: 1.6em; }
h1, h2, h3, p, dd { overflow-wrap: anywhere; } p, li { color: var(--soft); }
.fault { border-left: 4px solid #d55e00; background: var(--fault); padding: .6em 1em; color: var(--text); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--head); }
code, pre { background: var(--code); } code { padding: .1em .3em; overflow-wrap: anywhere; }
pre { padding: .8em; overflow: auto; max-height: 30em; font-size: .85em; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2em 1.2em; } dt { color: var(--soft); }
dd { margin: 0; } summary { cursor: pointer; padding: .3em 0; } figure { margin: 1em 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 0 1em; }
.plots > * { min-width: 0; } img { max-width: 100%; height: auto; background: #fff; }
.wide img { max-width: none; width: max(100%, 640px); } .wide img.small { max-width: 100%; width: auto; }
"""
# On a phone or in a column, a legend beside the plot leaves no room for the plot, so the legend goes below. Plots are
# drawn before the columns have their widths, so they are resized afterwards. Lines and texts follow the reader's light
# or dark screen, and so does a series in black.
_SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 700px)");
const plots = [...document.querySelectorAll(".plotly-graph-div")];
function paint() {
  const [text, line, black] = dark.matches ? ["#e4e4e4", "#3c3c3c", "#f0f0f0"] : ["#2a3f5f", "#e4e9f0", "#000000"];
  for (const plot of plots) {
    plot.data.forEach((trace, number) => {
      if (["#000000", "#f0f0f0"].includes(trace.marker?.color))
        Plotly.restyle(plot, {"marker.color": black, "line.color": black}, [number]);
    });
    Plotly.relayout(plot, {"font.color": text, ...Object.fromEntries(["xaxis", "yaxis"].flatMap(
      axis => ["gridcolor", "zerolinecolor", "linecolor"].map(part => [`${axis}.${part}`, line])))});
  }
}
for (const plot of plots)
  if (narrow.matches || plot.closest(".plots"))
    Plotly.relayout(plot, {"legend.orientation": "h", "legend.y": -0.25, "title.font.size": narrow.matches ? 13 : 15,
                           "margin.l": 55, "margin.r": 10, "margin.t": plot.layout.title?.text ? 60 : 20});
for (const plot of plots) Plotly.Plots.resize(plot);
dark.addEventListener("change", paint);
paint();
"""


def write_page(
    path: Path, title: str, faults: Sequence[str], paragraphs: Sequence[str], blocks: Sequence[Block]
) -> None:
    """Write the page to `path`, with everything in it, plotly's code too.

    Args:
        faults: sentences that stand out above everything else.
        paragraphs: texts above the blocks; `code` stands in backquotes.
        blocks: tables, figures and the like in their order; a table with the page's own title gets no heading.
    """
    parts = [f'<p class="fault">{_mark_code(text)}</p>' for text in faults]
    parts += [f"<p>{_mark_code(text)}</p>" for text in paragraphs]
    for block in blocks:
        parts += _block_parts(block, "" if isinstance(block, Table) and block.title == title else "h2")
    body = "\n".join(parts)
    if "plotly-graph-div" in body:
        body = f"<script>{get_plotlyjs()}</script>\n{body}\n<script>{_SCRIPT}</script>"
    replace_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Browsers ask for an icon unless there is one.
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n'
        f"{body}\n</body></html>\n",
    )


def _block_parts(block: Block, heading: str) -> list[str]:
    """Return the HTML of a block; `heading` is the tag of its heading, such as h2, and empty for none."""
    if isinstance(block, Table):
        notes = [f"<p>{_mark_code(text)}</p>" for text in block.notes]
        return [*_heading(block.title, heading), *notes, f'<div class="wide">{html_table(block.columns)}</div>']
    if isinstance(block, Facts):
        rows = (f"<dt>{html.escape(name)}</dt><dd>{_mark_code(text)}</dd>" for name, text in block.texts.items())
        return [f"<dl>{''.join(rows)}</dl>"]
    if isinstance(block, Listing):
        return [f"<details><summary>{html.escape(block.title)}</summary><pre>{html.escape(block.text)}</pre></details>"]
    if isinstance(block, Picture):
        return [_picture_html(block)]
    if isinstance(block, Section):
        return _section_parts(block, heading)
    if isinstance(block, Confusion):
        # Cells keep a size that can be read, and the matrix scrolls inside its box.
        columns, rows = len(block.columns), len(block.rows)
        plot = _plot_html(plot_confusion(block), height=170 + max(26 * rows, 130))
        return [f'<div class="wide"><div style="min-width: {170 + 30 * columns}px">{plot}</div></div>']
    return [_plot_html(plot_heat_map(block) if isinstance(block, HeatMap) else plot_figure(block))]


def _section_parts(section: Section, heading: str) -> list[str]:
    parts = [*_heading(section.title, heading), *(f"<p>{_mark_code(text)}</p>" for text in section.paragraphs)]
    for is_figure, blocks in groupby(section.blocks, key=lambda block: isinstance(block, Figure)):
        inside = [part for block in blocks for part in _block_parts(block, "h3")]
        parts += ['<div class="plots">', *inside, "</div>"] if is_figure else inside
    return ["<section>", *parts, "</section>"]


def _heading(title: str, heading: str) -> list[str]:
    return [f"<{heading}>{html.escape(title)}</{heading}>"] if heading and title else []


def _picture_html(picture: Picture) -> str:
    from PIL import Image

    with Image.open(picture.path) as image:
        small = ' class="small"' if image.width < 640 else ""
    content = base64.b64encode(picture.path.read_bytes()).decode()
    alternative = html.escape(picture.description)
    return f'<div class="wide"><img{small} alt="{alternative}" src="data:image/png;base64,{content}"></div>'


def _plot_html(plot: go.Figure, height: int = 460) -> str:
    plot.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
    return plot.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        default_height=f"{height}px",
        config={"displaylogo": False, "responsive": True},
    )


def _mark_code(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
