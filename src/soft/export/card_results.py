"""A model card's results: those of the exported weights where they are recorded, and else the run's."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from soft.models.checkpoints import read_entry
from soft.runs.folder import METRICS
from soft.runs.metrics import RAW, VALIDATED, show_metric
from soft.runs.result import best_value


def describe_results(
    folder: Path | None, result: Mapping[str, object], checkpoint: Path, weights: str, averaged: bool, source: str
) -> str | None:
    """Return the results as Markdown; None where nothing is known.

    Args:
        folder: the run's folder; None where there is none around the checkpoint.
        result: the content of its result.json; empty if the run has not ended.
        checkpoint: the file.
        weights: `ema` or `raw`.
        averaged: the run averages its weights.
        source: words for what was validated on.
    """
    raw = weights == "raw" and averaged  # val/*, and the run's best value, are those of the averaged weights
    names, file = RAW if raw else VALIDATED, f"the {weights} weights of {checkpoint.name}"
    file = file if averaged else checkpoint.name
    own = checkpoint_metrics(folder, checkpoint) if folder else {}
    if shown := {name: own[name] for name in names if name in own}:
        lines = [f"These are the metrics of {file} on {source}."]
        return "\n".join([*lines, *(f"- {name}: {show_metric(name, value)}" for name, value in shown.items())])
    if not result:
        return None
    lines = [
        f"The metrics of {file} are not recorded. These are the run's on {source}, and may be those of other weights."
    ]
    last, monitor = result.get("last", {}), result.get("monitor", "val/top1")
    if raw:
        monitor = monitor if monitor in RAW else None
        if not any(name in last for name in RAW):
            lines.append("- The raw weights were not validated; the run's other figures are of the averaged weights.")
    if monitor and (best := best_value(result)) is not None:
        lines.append(f"- best {monitor}: {show_metric(monitor, best)}")
    lines += [f"- {name} at the end: {show_metric(name, last[name])}" for name in names if name in last]
    return "\n".join(lines)


def checkpoint_metrics(folder: Path, checkpoint: Path) -> dict[str, float]:
    """Return the metrics of the validation right before a checkpoint of the run in `folder`; empty without one."""
    position, path = read_entry(checkpoint, "position"), folder / METRICS
    if not position or position["validating"] or not path.is_file():
        return {}
    text = path.read_text()
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))  # a killed run may leave half a line
    # A validation is logged under the last step before it.
    found = [row for row in rows if row.get("step") == str(position["global_step"] - 1)]
    return {name: float(row[name]) for row in found for name in (*VALIDATED, *RAW) if row.get(name)}
