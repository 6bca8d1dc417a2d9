"""The files that say what a run was and what came of it: config.yaml, result.json and metrics.csv."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
    """Return the best value of the monitored metric; older files hold only the top-1, which they monitored."""
    return result.get("best", result["top1"])


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return, for each metric of a metrics.csv, its (epoch, value) pairs.

    The first epoch ends at 1; what is logged within the second epoch lies between 1 and 2.
    """
    text = path.read_text()
    rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))  # a killed run may leave half a line
    place = _epochs_by_step(rows)
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name not in ("epoch", "step") and value:
                series[name].append((place(row), float(value)))
    return dict(series)


def _epochs_by_step(rows: Sequence[Mapping[str, str]]) -> Callable[[Mapping[str, str]], float]:
    """Return a function that says how many epochs were over when a row was logged."""
    last: dict[int, int] = {}  # the last step, from 0, that each epoch has logged
    for row in rows:
        if row.get("step"):
            last[int(row["epoch"])] = max(int(row["step"]), last.get(int(row["epoch"]), 0))
    lengths = {epoch: step - last.get(epoch - 1, -1) for epoch, step in last.items() if epoch - 1 in last or epoch == 0}
    ended = {int(row["epoch"]) for row in rows if row.get("val/loss") or row.get("train/loss_epoch")}
    longest = max((length for epoch, length in lengths.items() if epoch in ended), default=0)

    def place(row: Mapping[str, str]) -> float:
        epoch = int(row["epoch"])
        if epoch not in lengths or not row.get("step"):
            return epoch + 1.0
        length = lengths[epoch] if epoch in ended else max(longest, lengths[epoch])
        return epoch + (int(row["step"]) - last.get(epoch - 1, -1)) / length

    return place
