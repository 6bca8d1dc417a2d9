"""The output of a benchmark: progress, tables on the screen, and the same tables as CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from soft.writing import replace_text

Row = Mapping[str, object]


class Reporter:
    """Printer of tables that writes each of them to `folder`/NAME.csv too, below lines that describe the machine.

    Args:
        folder: folder of this run.
        facts: conditions of the measurement by name, see `soft.hardware.machine.describe_machine`.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, object]):
        self.folder = Path(folder)
        self.facts = {name: fact for name, fact in facts.items() if fact is not None}
        self._targets: list[Row] = []
        self._screen = Console()
        if not self._screen.is_terminal:
            self._screen.width = 200  # columns of a log file
        self._notes = Console(stderr=True)
        self._status = self._notes.status("")

    def start(self) -> None:
        """Make the folder, and print the conditions of the measurement."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, fact in self.facts.items():
            self._screen.print(f"{name:<14}{fact}", highlight=False, soft_wrap=True)

    def step(self, text: str) -> None:
        """Show what is being measured from now on."""
        if self._notes.is_terminal:
            self._status.update(text)
            self._status.start()
        else:
            self._notes.print(text, highlight=False, soft_wrap=True)

    def table(self, name: str, title: str, rows: Sequence[Row]) -> None:
        """Print `rows`, which all have the same columns, and write them to `name`.csv."""
        self._status.stop()
        text = io.StringIO()
        text.writelines(f"# {fact}: {value}\n" for fact, value in self.facts.items())
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        replace_text(self.folder / f"{name}.csv", text.getvalue())
        table = Table(box=box.SIMPLE_HEAD)
        for column in rows[0]:
            number = all(isinstance(row[column], (int, float, type(None))) for row in rows)
            table.add_column(column.replace("_", " "), justify="right" if number else "left", no_wrap=not number)
        for row in rows:
            table.add_row(*map(_shown, row.values()))
        self._screen.print(f"\n{title}", style="bold", highlight=False, soft_wrap=True)
        self._screen.print(table)

    def target(self, what: str, measured: float, minimum: float | None = None, maximum: float | None = None) -> None:
        """Note a figure that should be at least `minimum`, or at most `maximum`."""
        limit = minimum if minimum is not None else maximum
        met = measured >= limit if minimum is not None else measured <= limit
        bound = f"{'>=' if minimum is not None else '<='} {limit:g}"
        self._targets.append({"what": what, "measured": measured, "limit": bound, "met": "yes" if met else "no"})

    def finish(self) -> None:
        """Print the targets that were noted, and the folder that holds everything."""
        self._status.stop()
        if self._targets:
            self.table("targets", "Targets", self._targets)
        self._screen.print(f"written to {self.folder}", highlight=False, soft_wrap=True)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
