"""The files that a finished run leaves in its folder: result.json, config.yaml, metrics.csv and the typed overrides."""

import csv
import json
import statistics
from pathlib import Path

import yaml

RESULT, CONFIG, METRICS, OVERRIDES = "result.json", "config.yaml", "metrics.csv", ".hydra/overrides.yaml"


def is_finished(folder: Path) -> bool:
    """Return whether a run has come to its end in `folder`."""
    return (folder / RESULT).is_file() and (folder / CONFIG).is_file()


def read_result(folder: Path) -> dict[str, object]:
    """Read result.json: the best top-1, the last value of each metric, facts and conditions."""
    return json.loads((folder / RESULT).read_text())


def read_config(folder: Path) -> dict[str, object]:
    """Read config.yaml, the resolved settings of the run."""
    return yaml.safe_load((folder / CONFIG).read_text())


def read_typed_keys(folder: Path) -> frozenset[str]:
    """Return the keys of the overrides that started the run; empty where they were not written down."""
    path = folder / OVERRIDES
    words = yaml.safe_load(path.read_text()) if path.is_file() else []
    return frozenset(word.partition("=")[0].lstrip("+") for word in words)


def median_metric(folder: Path, name: str) -> float | None:
    """Return the median of a metric over the rows of metrics.csv; None where it was not logged."""
    path = folder / METRICS
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        values = [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return statistics.median(values) if values else None
