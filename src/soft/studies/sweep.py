"""The finished runs of a sweep, and the settings that vary between them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from soft.errors import SettingError
from soft.runs.identity import is_recording, is_repeated
from soft.studies.evaluations import evaluations_of, is_evaluated_with, lacks_evaluations
from soft.studies.finished_run import Run, read_run
from soft.studies.run_files import CONFIG, RESULT, is_finished

# Settings that may differ between the machines of a sweep, and that no table is about.
_LOCAL = {"data.root", "data.num_workers"}
# Settings that name something. What else changes with the name, such as a model's learning rate, belongs to it.
_NAMES = ("model.name", "model.attention.attention", "data.dataset")
PLANNED_RUNS = "planned_runs"  # in multirun.yaml, the number of runs that the command asked for last


@dataclass(frozen=True)
class Sweep:
    """The runs below a folder: finished ones in the order of their numbers, and the folders of the others.

    Attributes:
        runs: where the study evaluates its runs with other settings, these evaluations stand in their place.
        unevaluated: folders of finished runs of which evaluations are missing.
        complete: all runs that were asked for are finished, as far as that is known.
        study: entries of the study, as they were when the sweep was started last; empty outside of studies.
        command: the command that started the sweep, None if it is unknown.
    """

    folder: Path
    runs: list[Run]
    unfinished: list[Path] = field(default_factory=list)
    unevaluated: list[Path] = field(default_factory=list)
    complete: bool = True
    study: Mapping[str, object] = field(default_factory=dict)
    command: str | None = None


def read_sweep(folder: str | Path) -> Sweep:
    """Read all runs below `folder`.

    Raises:
        SettingError: no run there is finished, or the folder is that of a single run.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        raise SettingError(f"sweep={folder} is the folder of a single run; run={folder} makes its page.")
    finished = {path.parent for path in folder.rglob(RESULT) if is_finished(path.parent)}
    started = {path.parent.parent for path in folder.rglob(".hydra/overrides.yaml")}
    if not finished:
        raise SettingError(
            f"sweep={folder} holds no finished run; name the folder of a sweep, such as outputs/experiments/NAME."
        )
    unfinished = [path for path in started - finished if (path / "train.log").is_file()]
    runs = [read_run(path) for path in sorted(finished, key=_run_number)]
    multirun = _read_multirun(folder / "multirun.yaml")
    study = multirun.get("study") or runs[-1].study
    asked = study.get("evaluate") or {}
    return Sweep(
        folder,
        _with_evaluations(runs, asked),
        sorted(unfinished, key=_run_number),
        [run.folder for run in runs if lacks_evaluations(run, asked)],
        not unfinished and len(finished) >= (multirun.get(PLANNED_RUNS) or 0),
        study,
        _command(multirun),
    )


def _with_evaluations(runs: Sequence[Run], asked: Mapping[str, list[object]]) -> list[Run]:
    """Return runs with their evaluations in their place, where some were asked for."""
    found = []
    for run in runs:
        found += evaluations_of(run) if asked and is_evaluated_with(run, asked) else [run]
    return found or list(runs)


def _run_number(folder: Path) -> tuple[str, int, str]:
    """Return a key that sorts the folders of runs by their numbers."""
    return str(folder.parent), int(folder.name) if folder.name.isdigit() else -1, folder.name


def _read_multirun(path: Path) -> Mapping[str, object]:
    """Return the configuration with which the sweep was started last, empty if it was not written down."""
    return (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}


def _command(multirun: Mapping[str, object]) -> str | None:
    """Return the typed command of a sweep's configuration."""
    hydra = multirun.get("hydra")
    if not hydra:
        return None
    words = hydra.get("overrides", {}).get("task", [])
    return " ".join([f"python src/{hydra['job']['name']}.py -m", *(_quote(word) for word in words)])


def _quote(word: str) -> str:
    return f"'{word}'" if set(word) & set(' []{}()*$&;|<>"') else word


def varying_settings(runs: Sequence[Run]) -> list[str]:
    """Return the settings that tell the runs apart, besides their seeds.

    Of several settings that always have equal values the first is kept. A setting that changes only together with a
    name (the learning rate that a model brings) is left out unless it was typed.
    """
    series: dict[str, tuple[str, ...]] = {"seed": _series(runs, "seed")}
    typed = {key for run in runs for key in run.typed}
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        if is_recording(key) or is_repeated(key) or key in _LOCAL or "_target_" in key.split("."):
            continue
        if key not in typed and not _differs_where_known(runs, key):
            continue  # it differs at most because runs of an older version lack it
        values = _series(runs, key)
        if len(set(values)) > 1 and values not in series.values():
            series[key] = values
    del series["seed"]
    for name in _NAMES:
        if name in series:
            depends = [key for key in series if key != name and _follows(series[key], series[name])]
            for key in depends:
                if key not in typed:
                    del series[key]
    return list(series)


def _differs_where_known(runs: Sequence[Run], key: str) -> bool:
    """Return whether the runs that have a setting have several values of it."""
    return len({json.dumps(run.settings[key]) for run in runs if key in run.settings}) > 1


def _series(runs: Sequence[Run], key: str) -> tuple[str, ...]:
    return tuple(json.dumps(run.settings.get(key)) for run in runs)


def _follows(values: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether each name always comes with the same value."""
    return len(set(zip(names, values, strict=True))) == len(set(names))
