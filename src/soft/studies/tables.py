"""The rows of a sweep as Markdown, CSV, LaTeX and HTML."""

import csv
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from soft.studies.rows import Measured, Row, label, show


@dataclass(frozen=True)
class Column:
    """A header, and a cell for each row; empty where there is nothing."""

    header: str
    cells: list[str]


def si(value: float) -> str:
    """Three digits and a unit prefix: 1.26 M."""
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{prefix}"
    return f"{value:.3g}"


def columns(rows: Sequence[Row]) -> list[Column]:
    """What varies, then what was measured and, beside it, what the paper reports; without columns that are empty."""
    table = [Column(label(key), [show(row.settings[key]) for row in rows]) for key in rows[0].settings]
    for name, header, form in _QUANTITIES:
        table.append(Column(header, [_cell(row.measured.get(name), form) for row in rows]))
        table.append(Column(f"paper: {header}", [str(row.paper.get(name, "")) for row in rows]))
    table.append(Column("residual", [_worst_residual(row) for row in rows]))
    table.append(Column("seeds", [", ".join(map(str, sorted(row.seeds))) for row in rows]))
    epochs = [row.measured.get("epochs") for row in rows]
    if len({value.mean for value in epochs if value}) > 1:  # some were stopped early
        table.append(Column("epochs", [_cell(value, "{:.0f}".format) for value in epochs]))
    return [column for column in table if any(column.cells)]


_QUANTITIES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("top1", "top-1 (%)", "{:.2f}".format),
    ("params", "params", si),
    ("macs", "FLOPs", si),
    ("images_per_second", "images/s", "{:.0f}".format),
    ("peak_memory", "peak memory (MiB)", lambda value: f"{value / 2**20:.0f}"),
    ("seconds", "time (s)", "{:.0f}".format),
)


def _cell(measured: Measured | None, form: Callable[[float], str]) -> str:
    if measured is None:
        return ""
    spread = f" ± {form(measured.std)}" if measured.std and form(measured.std) != form(0.0) else ""
    return f"{form(measured.mean)}{spread}"


def _worst_residual(row: Row) -> str:
    stages = [row.measured[name].mean for name in row.measured if name.startswith("residual")]
    return f"{max(stages):.1e}" if stages else ""


def markdown(table: Sequence[Column]) -> str:
    """Aligned, so that it can be read as it is."""
    widths = [max(len(text) for text in (column.header, *column.cells)) for column in table]
    lines = [
        [column.header for column in table],
        ["-" * width for width in widths],
        *zip(*(column.cells for column in table), strict=True),
    ]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "–": "--"}


def latex(table: Sequence[Column], caption: str) -> str:
    """A table environment for the booktabs package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escape, cells)) + r" \\"

    rows = zip(*(column.cells for column in table), strict=True)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escape(caption)}}}",
            rf"  \begin{{tabular}}{{{'l' * len(table)}}}",
            r"    \toprule",
            f"    {line([column.header for column in table])}",
            r"    \midrule",
            *(f"    {line(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def html_table(table: Sequence[Column]) -> str:
    """A <table>."""
    head = "".join(f"<th>{html.escape(column.header)}</th>" for column in table)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in zip(*(column.cells for column in table), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Every figure in full: a setting's dotted key, and for each quantity its mean and standard deviation."""
    names = list(dict.fromkeys(name for row in rows for name in row.measured))
    paper = list(dict.fromkeys(name for row in rows for name in row.paper))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        spread = [text for name in names for text in (name, f"{name}_std")]
        writer.writerow([*rows[0].settings, "seeds", *spread, *(f"paper_{name}" for name in paper)])
        for row in rows:
            cells: list[object] = [*row.settings.values(), " ".join(map(str, sorted(row.seeds)))]
            for name in names:
                measured = row.measured.get(name)
                cells += [measured.mean, measured.std] if measured else [None, None]
            writer.writerow([*cells, *(row.paper.get(name) for name in paper)])
