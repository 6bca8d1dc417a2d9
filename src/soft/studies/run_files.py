"""The files that runs and evaluations leave in their folders: results, config.yaml, metrics.csv, typed overrides."""

import csv
import json
import statistics
from pathlib import Path

import yaml

RESULT, CONFIG, METRICS, OVERRIDES = "result.json", "config.yaml", "metrics.csv", ".hydra/overrides.yaml"
EVALUATION = "evaluation.json"


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
    return frozenset(_typed(folder))


def read_evaluation(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Read evaluation.json of `folder`, and the settings by dotted key that were typed for it."""
    settings = {key: yaml.safe_load(text) for key, text in _typed(folder).items()}
    return json.loads((folder / EVALUATION).read_text()), settings


def _typed(folder: Path) -> dict[str, str]:
    """Return the overrides of a run: the text that stands behind the equals sign, by key."""
    path = folder / OVERRIDES
    words = yaml.safe_load(path.read_text()) if path.is_file() else []
    parts = [word.partition("=") for word in words]
    return {key.lstrip("+"): text for key, _, text in parts}


def median_metric(folder: Path, name: str) -> float | None:
    """Return the median of a metric over the rows of metrics.csv; None where it was not logged."""
    path = folder / METRICS
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        values = [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return statistics.median(values) if values else None
