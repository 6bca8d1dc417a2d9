"""The finished runs of a sweep, and the settings that vary between them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from soft.errors import SettingError
from soft.runs.identity import flatten, is_recording, is_repeated
from soft.studies.run_files import RESULT, is_finished, median_metric, read_config, read_result, read_typed_keys

# They may differ between the machines of a sweep, and no table is about them.
_LOCAL = {"data.root", "data.num_workers"}
# Settings that name something. What else changes with the name, such as a model's learning rate, belongs to it.
_NAMES = ("model.name", "model.attention.attention", "data.dataset")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        settings: config.yaml with dotted keys.
        result: result.json.
        images_per_second: median of the logged values, None if nothing was logged.
        study: entries of the study in config.yaml, empty outside of studies.
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
    """The runs below a folder: finished ones in the order of their numbers, and the folders of the others.

    Attributes:
        command: the command that started the sweep, None if it is unknown.
    """

    folder: Path
    runs: list[Run]
    unfinished: list[Path] = field(default_factory=list)
    command: str | None = None

    @property
    def study(self) -> Mapping[str, object]:
        """Return the study's entries in the last run: they may have been corrected since the first."""
        return self.runs[-1].study if self.runs else {}


def read_sweep(folder: str | Path) -> Sweep:
    """Read all runs below `folder`.

    Raises:
        SettingError: no run there is finished.
    """
    folder = Path(folder)
    finished = {path.parent for path in folder.rglob(RESULT) if is_finished(path.parent)}
    started = {path.parent.parent for path in folder.rglob(".hydra/overrides.yaml")}
    if not finished:
        raise SettingError(
            f"sweep={folder} holds no finished run; name the folder of a sweep, such as outputs/experiments/NAME."
        )
    unfinished = [path for path in started - finished if (path / "train.log").is_file()]
    return Sweep(
        folder,
        [_read_run(path) for path in sorted(finished, key=_run_number)],
        sorted(unfinished, key=_run_number),
        _read_command(folder / "multirun.yaml"),
    )


def _run_number(folder: Path) -> tuple[str, int, str]:
    """Return a key that sorts the folders of runs by their numbers."""
    return str(folder.parent), int(folder.name) if folder.name.isdigit() else -1, folder.name


def _read_run(folder: Path) -> Run:
    config = read_config(folder)
    settings = dict(flatten(config))
    if settings.get("model.attention.inverse", "newton") != "newton":
        settings["model.attention.newton_iters"] = None  # exact inverses have no iterations
    return Run(
        folder,
        settings,
        read_result(folder),
        median_metric(folder, "images_per_second"),
        config.get("study") or {},
        read_typed_keys(folder),
    )


def _read_command(multirun: Path) -> str | None:
    """Return the typed command, from the file that Hydra writes into a sweep's folder."""
    if not multirun.is_file():
        return None
    hydra = (yaml.safe_load(multirun.read_text()) or {}).get("hydra", {})
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
            continue  # runs of an older version do not have it
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
