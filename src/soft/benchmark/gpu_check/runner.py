"""Runs the parts of the check one after the other, each with a deadline, and writes what they find at once."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence

from soft.benchmark.gpu_check.measured import Check, Measured, Part
from soft.benchmark.reporter import Reporter

LINES, TABLE = "gpu_check.jsonl", "gpu_check.md"
FAILED = "failed"  # what is said of a part that ends in an error


def run_check(
    reporter: Reporter, check: Check, parts: Mapping[str, tuple[Part, float]], names: Sequence[str], seconds: float
) -> bool:
    """Run the parts `names`, print one table of all figures, and write it as CSV and Markdown.

    Return whether no figure misses its limit. A part that has used up its time, or fails, is cut short there: what it
    has found counts, and the next one begins. The line of JSON that each part prints as it ends is kept even if the
    process is killed after it.

    Args:
        parts: function and deadline in seconds, by name.
        names: the parts to run, in this order.
        seconds: for all parts together.
    """
    end, rows, held = time.monotonic() + seconds, [], True
    with (check.folder / LINES).open("w") as file:
        for name in names:
            part, limit = parts[name]
            began = time.monotonic()
            found, cut = _run(part, check, min(end, began + limit))
            lines = [figure.as_row(name) for figure in [*found, *([cut] if cut else [])]]
            rows += lines
            held &= not (cut and cut.what == FAILED)
            took = round(time.monotonic() - began, 1)
            line = json.dumps({"part": name, "seconds": took, "found": lines})
            file.write(line + "\n")
            file.flush()
            print(line, flush=True)
    columns = ("part", "what", "value", "unit", "limit", "met")  # notes are too long for a screen
    reporter.table("gpu_check", "GPU check", [{name: row[name] for name in columns} for row in rows])
    (check.folder / TABLE).write_text(markdown(reporter.facts, rows))
    return held and not any(row["met"] == "no" for row in rows)


def _run(part: Part, check: Check, end: float) -> tuple[list[Measured], Measured | None]:
    """Return what the part found, and the reason if it was cut short."""
    found: list[Measured] = []
    if time.monotonic() >= end:
        return found, Measured("not begun", "no time left")
    try:
        for figure in part(check):
            found.append(figure)
            if time.monotonic() >= end:
                return found, Measured("cut short", "its time was used up")
    except Exception as error:  # the other parts can still say something
        return found, Measured(FAILED, f"{type(error).__name__}: {_first_line(error)}")
    return found, None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def markdown(facts: Mapping[str, object], rows: Iterable[Mapping[str, object]]) -> str:
    """Return the table in Markdown, below the machine and the versions."""
    columns = ("part", "what", "value", "unit", "limit", "met", "note")
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_shown(row[column]) for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
