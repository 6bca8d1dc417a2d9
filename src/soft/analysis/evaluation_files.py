"""The files that an evaluation writes, and how they are read again."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from soft.analysis.class_tables import Confusion
from soft.errors import SettingError
from soft.studies.run_files import EVALUATION

PREDICTIONS, PER_CLASS, CONFUSION = "predictions.csv", "per_class.csv", "confusion.csv"
CONFUSION_PICTURE, MISTAKES = "confusion.png", "mistakes.png"
_KINDS = {
    **dict.fromkeys(("images", "correct", "answers", "confused"), int),
    **dict.fromkeys(("top1", "precision", "probability", "label_probability"), float),
}


def read_numbers(folder: Path) -> dict[str, object]:
    """Return what evaluation.json holds.

    Raises:
        SettingError: there is none, or it cannot be read.
    """
    try:
        return json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(f"evaluation={folder} holds no {EVALUATION}, which src/evaluate.py writes.") from error
    except ValueError as error:
        raise SettingError(f"{folder / EVALUATION} is damaged: {error}; evaluate again.") from error


def read_rows(folder: Path, name: str) -> list[dict[str, str | int | float | None]]:
    """Return the rows of PREDICTIONS or PER_CLASS; empty if the file was not written.

    A column of numbers holds int or float, and None where the file has an empty cell.
    """
    path = folder / name
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_typed(row) for row in csv.DictReader(file)]


def _typed(row: Mapping[str, str]) -> dict[str, str | int | float | None]:
    return {key: value if key not in _KINDS else _KINDS[key](value) if value else None for key, value in row.items()}


def read_confusion(folder: Path) -> Confusion | None:
    """Return the confusion matrix; None if it was not written."""
    path = folder / CONFUSION
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        (_, *columns), *lines = csv.reader(file)
    rows = [name for name, *_ in lines]
    counts = np.array([[int(cell) for cell in cells] for _, *cells in lines], np.int64).reshape(len(rows), len(columns))
    return Confusion(rows, columns, counts, counts.sum(1))
