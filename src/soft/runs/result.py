"""The files that say what a run was and what came of it: config.yaml, result.json and metrics.csv."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from soft.runs.folder import RESULT
from soft.writing import replace_text


@rank_zero_only
def write_config(folder: Path, text: str) -> None:
    """Write config.yaml: everything that was set, resolved."""
    replace_text(folder / "config.yaml", text)


@rank_zero_only
def write_result(folder: Path, result: Mapping[str, object]) -> None:
    """Write result.json, which also says that the run is over."""
    replace_text(folder / RESULT, json.dumps(result, indent=2) + "\n")


def read_result(folder: Path) -> dict[str, object] | None:
    """Return result.json of a finished run; None where there is none."""
    path = folder / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def best_value(result: Mapping[str, object]) -> float | None:
    """Return the best value of the monitored metric, which older files know as the top-1 alone."""
    return result.get("best", result["top1"])


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return, for each metric of a metrics.csv, its (epoch, value) pairs; an epoch counts from 1, at its end."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("epoch", "step") and value:
                    series[name].append((float(row["epoch"]) + 1, float(value)))
    return dict(series)
