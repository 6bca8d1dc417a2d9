"""A finished run, as its files tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soft.runs.identity import flatten
from soft.studies.run_files import median_metric, read_config, read_result, read_typed_keys


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


def one_form(value: object) -> object:
    """Return a setting's value in one form: a whole number is no float, so that 1 and 1.0 are the same value."""
    if isinstance(value, list):
        return [one_form(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_run(folder: Path) -> Run:
    """Read the finished run in `folder`."""
    config = read_config(folder)
    settings = {key: one_form(value) for key, value in flatten(config)}
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
