"""Runs that differ only in their seed, as one row of a table."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soft.studies.runs import Run

LABELS = {
    "model.name": "model",
    "model.attention.attention": "attention",
    "model.attention.num_landmarks": "landmarks m",
    "model.attention.newton_iters": "iterations T",
    "data.img_size": "image size",
    "optimizer.lr": "learning rate",
}


def label(key: str) -> str:
    """A setting's name for a person."""
    return LABELS.get(key) or key.rsplit(".", 1)[-1].replace("_", " ")


@dataclass(frozen=True)
class Measured:
    """One quantity over the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """The runs of one point of a sweep.

    Attributes:
        settings: the values of what varies, in the table's order.
        seeds: of its runs.
        measured: by name: top1 (percent), params, macs (per image), images_per_second, peak_memory (bytes), seconds,
            epochs, and residual_stage1 to 3; a quantity that no run has is left out.
        paper: the paper's figures for this point.
    """

    settings: Mapping[str, object]
    seeds: list[int]
    measured: Mapping[str, Measured]
    paper: Mapping[str, object]

    @property
    def name(self) -> str:
        """All of its settings, for a legend; a word stands for itself."""
        return ", ".join(
            value if isinstance(value, str) else f"{label(key)} {show(value)}"
            for key, value in self.settings.items()
            if value is not None
        )


def show(value: object) -> str:
    """A setting's value for a person."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def aggregate(runs: Sequence[Run], varying: Sequence[str]) -> list[Row]:
    """Rows in the order of their settings: numbers rise, words keep the order of the runs."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(str(run.settings.get(key)) for key in varying), []).append(run)
    rows = [_row(group, varying) for group in groups.values()]
    seen = {key: list(dict.fromkeys(str(row.settings[key]) for row in rows)) for key in varying}

    def order(row: Row) -> list[tuple[int, float]]:
        return [
            (0, value) if _is_number(value) else (1, seen[key].index(str(value))) for key, value in row.settings.items()
        ]

    return sorted(rows, key=order)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def numeric(rows: Sequence[Row], key: str) -> bool:
    """Whether the setting is a number with several values (or not set) in these rows."""
    values = [row.settings[key] for row in rows if row.settings[key] is not None]
    return all(map(_is_number, values)) and len(set(values)) > 1


def _row(runs: Sequence[Run], varying: Sequence[str]) -> Row:
    measured: dict[str, list[float]] = {}
    for run in runs:
        for name, value in _quantities(run).items():
            if value is not None:
                measured.setdefault(name, []).append(value)
    return Row(
        settings={key: runs[0].settings.get(key) for key in varying},
        seeds=[run.settings.get("seed") for run in runs],
        measured={name: Measured(tuple(values)) for name, values in measured.items()},
        paper=_published(runs[-1]),
    )


def _quantities(run: Run) -> dict[str, float | None]:
    result, facts, last = run.result, run.result.get("facts", {}), run.result.get("last", {})
    return {
        "top1": result.get("top1"),
        "params": facts.get("params"),
        "macs": facts.get("macs"),
        "images_per_second": run.images_per_second,
        "peak_memory": result.get("peak_memory"),
        "seconds": result.get("seconds"),
        "epochs": result.get("epochs"),
        **{f"residual_stage{stage}": last.get(f"newton/residual_stage{stage}") for stage in (1, 2, 3)},
    }


def _published(run: Run) -> Mapping[str, object]:
    """The first entry of the study's `paper` whose `when` this run fulfils."""
    for entry in run.study.get("paper") or []:
        if all(run.settings.get(key) == value for key, value in entry["when"].items()):
            return {name: value for name, value in entry.items() if name != "when"}
    return {}
