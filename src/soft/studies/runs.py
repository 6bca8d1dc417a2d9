"""Runs of a sweep as their files tell them, and which settings vary between them."""

import csv
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from soft.errors import SettingError

# Settings that tell apart where and how a run was written, not what it is.
_OUTSIDE = {"output_dir", "name", "resume", "logger", "callbacks", "study", "suggested"}
_MACHINE = {"data.root", "data.num_workers"}
# Names of things: what else changes with them, such as a model's learning rate, is part of the name.
_NAMES = ("model.name", "model.attention.attention", "data.dataset")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        settings: config.yaml with dotted keys.
        result: result.json.
        images_per_second: median of what was logged, None if nothing was.
        study: the study's own entries, empty outside of studies.
        typed: keys of the overrides that started the run.
    """

    folder: Path
    settings: Mapping[str, object]
    result: Mapping[str, object]
    images_per_second: float | None
    study: Mapping[str, object]
    typed: frozenset[str]


@dataclass(frozen=True)
class Sweep:
    """The runs below a folder: finished ones in the order of their numbers, and the folders of the others."""

    folder: Path
    runs: list[Run]
    unfinished: list[Path] = field(default_factory=list)
    command: str | None = None

    @property
    def study(self) -> Mapping[str, object]:
        """Of the last run: a study's texts may have been mended since the first."""
        return self.runs[-1].study if self.runs else {}


def read_sweep(folder: str | Path) -> Sweep:
    """Everything that was trained below `folder`.

    Raises:
        SettingError: nothing there is a finished run.
    """
    folder = Path(folder)
    finished = {path.parent for path in folder.rglob("result.json") if (path.parent / "config.yaml").is_file()}
    started = {path.parent.parent for path in folder.rglob(".hydra/overrides.yaml")}
    if not finished:
        raise SettingError(
            f"sweep={folder} holds no finished run; name the folder of a sweep, such as outputs/experiments/NAME."
        )
    unfinished = [path for path in started - finished if (path / "train.log").is_file()]
    return Sweep(
        folder,
        [_read_run(path) for path in sorted(finished, key=_number)],
        sorted(unfinished, key=_number),
        _command(folder / "multirun.yaml"),
    )


def _number(folder: Path) -> tuple[str, int, str]:
    return str(folder.parent), int(folder.name) if folder.name.isdigit() else -1, folder.name


def _read_run(folder: Path) -> Run:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    overrides = folder / ".hydra" / "overrides.yaml"
    typed = yaml.safe_load(overrides.read_text()) if overrides.is_file() else []
    settings = dict(_flatten(config))
    if settings.get("model.attention.inverse", "newton") != "newton":
        settings["model.attention.newton_iters"] = None  # not read by the others
    return Run(
        folder,
        settings,
        json.loads((folder / "result.json").read_text()),
        _median(folder / "metrics.csv", "images_per_second"),
        config.get("study") or {},
        frozenset(word.partition("=")[0].lstrip("+") for word in typed),
    )


def _flatten(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _median(metrics: Path, name: str) -> float | None:
    if not metrics.is_file():
        return None
    with metrics.open(newline="") as file:
        values = [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return statistics.median(values) if values else None


def _command(multirun: Path) -> str | None:
    """What was typed, from the file that Hydra writes into a sweep's folder."""
    if not multirun.is_file():
        return None
    hydra = (yaml.safe_load(multirun.read_text()) or {}).get("hydra", {})
    words = hydra.get("overrides", {}).get("task", [])
    return " ".join([f"python src/{hydra['job']['name']}.py -m", *(_quote(word) for word in words)])


def _quote(word: str) -> str:
    return f"'{word}'" if set(word) & set(' []{}()*$&;|<>"') else word


def varying_settings(runs: Sequence[Run]) -> list[str]:
    """The settings that tell the runs apart, besides their seeds.

    Of several that always have the same value one is kept, and what changes only together with a name (the learning
    rate that a model brings) is left out unless it was typed.
    """
    series: dict[str, tuple[str, ...]] = {"seed": _series(runs, "seed")}
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        parts = key.split(".")
        if parts[0] in _OUTSIDE or "recipe" in parts or "_target_" in parts or key in _MACHINE:
            continue
        values = _series(runs, key)
        if len(set(values)) > 1 and values not in series.values():
            series[key] = values
    del series["seed"]
    typed = {key for run in runs for key in run.typed}
    for name in _NAMES:
        if name in series:
            depends = [key for key in series if key != name and _follows(series[key], series[name])]
            for key in depends:
                if key not in typed:
                    del series[key]
    return list(series)


def _series(runs: Sequence[Run], key: str) -> tuple[str, ...]:
    return tuple(json.dumps(run.settings.get(key)) for run in runs)


def _follows(values: Sequence[str], names: Sequence[str]) -> bool:
    """Whether each name has one value."""
    return len(set(zip(names, values, strict=True))) == len(set(names))
