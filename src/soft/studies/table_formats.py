"""Tables as Markdown, LaTeX, HTML and CSV."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from soft.studies.tables import Column
from soft.writing import replace_text

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "–": "--", "−": "$-$", "≥": r"$\geq$"}
_LATEX |= {"$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX["\\"] = r"\textbackslash{}"
_LATEX["["] = "{[}"  # at the beginning of a row it would be read as an option of the line before


def markdown(columns: Sequence[Column]) -> str:
    """Return a table in Markdown whose columns are aligned, so that it can be read as it is."""
    widths = [max(len(text) for text in (column.header, *column.cells)) for column in columns]
    lines = [
        [column.header for column in columns],
        ["-" * width for width in widths],
        *zip(*(column.cells for column in columns), strict=True),
    ]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def latex(columns: Sequence[Column], caption: str) -> str:
    """Return a LaTeX table environment for the booktabs package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escape, cells)) + r" \\"

    rows = zip(*(column.cells for column in columns), strict=True)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escape(caption)}}}",
            rf"  \begin{{tabular}}{{{'l' * len(columns)}}}",
            r"    \toprule",
            f"    {line([column.header for column in columns])}",
            r"    \midrule",
            *(f"    {line(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def html_table(columns: Sequence[Column]) -> str:
    """Return a <table>."""
    head = "".join(f"<th>{html.escape(column.header)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in zip(*(column.cells for column in columns), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_csv(records: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write records, which share their keys, with a line of names first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    replace_text(path, text.getvalue())
