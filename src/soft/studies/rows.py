"""Rows of a table: the runs that differ only in their seed, with means and standard deviations."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from soft.studies.evaluations import PREFIX
from soft.studies.finished_run import Run

LABELS = {
    "model.name": "model",
    "model.attention.attention": "attention",
    "model.attention.num_landmarks": "landmarks m",
    "model.attention.newton_iters": "iterations T",
    "data.img_size": "image size",
    "optimizer.lr": "learning rate",
}


def label(key: str) -> str:
    """Return a setting's name as a table shows it."""
    if key.startswith(PREFIX):
        return f"{label(key.removeprefix(PREFIX))} at evaluation"
    return LABELS.get(key) or key.rsplit(".", 1)[-1].replace("_", " ")


def file_names(keys: Iterable[str]) -> dict[str, str]:
    """Return for each setting the name that tells it from the others in a file's name: short where that is enough."""
    keys = list(keys)
    short = {key: "at_evaluation_" * key.startswith(PREFIX) + key.rsplit(".", 1)[-1] for key in keys}
    count = Counter(short.values())
    return {key: short[key] if count[short[key]] == 1 else key for key in keys}


@dataclass(frozen=True)
class Measured:
    """One quantity over the seeds: its values, and the seed of each."""

    values: tuple[float, ...]
    seeds: tuple[object, ...]

    @property
    def mean(self) -> float:
        """Return the mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Return the sample standard deviation; None for a single value."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 and np.isfinite(self.values).all() else None

    @property
    def by_seed(self) -> dict[object, float]:
        """Return the value of each seed; runs with the same seed are averaged."""
        values: dict[object, list[float]] = {}
        for seed, value in zip(self.seeds, self.values, strict=True):
            values.setdefault(seed, []).append(value)
        return {seed: statistics.fmean(found) for seed, found in values.items()}


@dataclass(frozen=True)
class Row:
    """The runs of one point of a sweep.

    Attributes:
        settings: values of the varying settings, in the table's order.
        seeds: seeds of the runs.
        measured: quantities by name: top1 (percent), params, macs (per image), images_per_second, peak_memory (bytes),
            seconds, epochs, residual_stage1 to 3, and what is logged as attention/NAME as attention_NAME. A quantity
            that no run has is left out.
        constant: the other settings, as the first of the runs has them.
    """

    settings: Mapping[str, object]
    seeds: list[int]
    measured: Mapping[str, Measured]
    constant: Mapping[str, object]

    @property
    def name(self) -> str:
        """Return all of its settings as one text."""
        return name_settings(self.settings)

    def name_without(self, *keys: str) -> str:
        """Return its settings but `keys` as one text."""
        return name_settings({key: value for key, value in self.settings.items() if key not in keys})

    @property
    def top1(self) -> dict[object, float]:
        """Return the top-1 in percent of each seed; empty where it was not measured."""
        return self.measured["top1"].by_seed if "top1" in self.measured else {}

    def is_at(self, point: Mapping[str, object]) -> bool:
        """Return whether the row's runs have all settings of `point`."""
        return all(self.settings.get(key, self.constant.get(key)) == value for key, value in point.items())


def name_settings(settings: Mapping[str, object]) -> str:
    """Return settings as a text for a legend or a sentence.

    A word stands for itself, and what is not set is left out, unless nothing is set.
    """
    known = {key: value for key, value in settings.items() if value is not None}
    if not known:
        return ", ".join(f"{label(key)} null" for key in settings)
    return ", ".join(value if isinstance(value, str) else f"{label(key)} {show(value)}" for key, value in known.items())


def show(value: object) -> str:
    """Return a setting's value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def aggregate(runs: Sequence[Run], varying: Sequence[str]) -> list[Row]:
    """Return the rows of a sweep, in the order of their settings: numbers rise, words keep the order of the runs."""
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


def is_numeric(rows: Sequence[Row], key: str) -> bool:
    """Return whether the setting has several values in these rows, all of them numbers where it is set."""
    values = [row.settings[key] for row in rows if row.settings[key] is not None]
    return all(map(_is_number, values)) and len(set(values)) > 1


def _row(runs: Sequence[Run], varying: Sequence[str]) -> Row:
    measured: dict[str, list[tuple[float, object]]] = {}
    for run in runs:
        for name, value in _quantities(run).items():
            if value is not None:
                measured.setdefault(name, []).append((value, run.settings.get("seed")))
    return Row(
        settings={key: runs[0].settings.get(key) for key in varying},
        seeds=[run.settings.get("seed") for run in runs],
        measured={name: Measured(*zip(*found, strict=True)) for name, found in measured.items()},
        constant={key: value for key, value in runs[0].settings.items() if key not in varying},
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
        **{key.replace("/", "_"): value for key, value in last.items() if key.startswith("attention/")},
    }
