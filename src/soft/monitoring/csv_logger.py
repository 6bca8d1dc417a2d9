"""Writes metrics.csv, which a resumed run continues."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from soft.runs.position import Position
from soft.writing import explain_full_disk, replace_text


class CsvLogger(CSVLogger):
    """Logger that writes metrics.csv in `save_dir`, row by row; unlike Lightning's, it continues an existing file."""

    def __init__(self, save_dir: str):
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return self._experiment

    @rank_zero_only
    def go_on_from(self, position: Position | None) -> None:
        """Drop the rows after `position`, because they will be logged again; with None, drop all rows."""
        path = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
        if not path.is_file():
            return
        if position is None:
            path.unlink()
            return
        text = path.read_text()
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))  # a killed run may leave half a line
        kept = [row for row in rows if position.keeps(row)]
        replace_text(path, _table(rows.fieldnames or [], kept))


class _Rows(ExperimentWriter):
    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _check_log_dir_exists(self) -> None:
        """Keep metrics.csv, which Lightning's own method deletes."""

    def save(self) -> None:
        with explain_full_disk(Path(self.metrics_file_path)):
            super().save()

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        # Lightning's own method empties the file first, and a run killed at that moment would lose all rows.
        path = Path(self.metrics_file_path)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        replace_text(path, _table(fieldnames, rows))


def _table(fields: Iterable[str], rows: Iterable[Mapping[str, str]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, fields)
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()
