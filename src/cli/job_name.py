"""Names a run of a sweep after the sweep and after the settings that vary in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cli.command_line import key_of
from hydra_plugins.grid import MULTIRUN, expand, study_grids

_LONGEST = 8  # characters of a value; longer numbers, such as those that a search draws, are rounded


@dataclass(frozen=True)
class JobName:
    """Name of a run and of its sweep.

    Attributes:
        name: the settings that vary in the sweep, with the run's values; None where nothing varies.
        sweep: the sweep's name; None for a run outside a sweep.
    """

    name: str | None = None
    sweep: str | None = None


def name_job(folder: Path) -> JobName:
    """Return the name of the run that this process is about to do in `folder`."""
    config, loader = HydraConfig.get(), GlobalHydra.instance().config_loader()
    above = list(folder.parents) if not OmegaConf.is_missing(config.job, "num") else [folder.parent]
    sweep = next((path for path in above if (path / MULTIRUN).is_file()), None)
    if sweep is None:
        return JobName()
    settings = OmegaConf.load(sweep / MULTIRUN)
    varied = varied_settings(settings, loader)
    values: dict[str, str] = {}
    for text in config.overrides.task:
        if (key := key_of(text)) in varied:
            values.setdefault(key, text.partition("=")[2])  # a job that goes on has another resume=... at its end
    study = settings.get("study") or {}
    group = f"{study['name']}-{study['scale']}" if "name" in study else sweep.name
    return JobName(short_name(values) or None, group)


def varied_settings(sweep: DictConfig, loader: ConfigLoader) -> set[str]:
    """Return the keys of the settings that are not the same in all jobs of a sweep.

    Args:
        sweep: content of the sweep's multirun.yaml.
        loader: Hydra's loader of configurations.
    """
    typed = list(sweep.hydra.overrides.task)
    parser, params = OverridesParser.create(config_loader=loader), sweep.hydra.sweeper.get("params")
    if "trials" in sweep.hydra.sweeper:  # a search, whose jobs are not known in advance
        overrides = parser.parse_overrides(typed)
        several = {override.get_key_element() for override in overrides if override.is_sweep_override()}
        return several | (set(params) - {override.get_key_element() for override in overrides})
    jobs = [set(job) for job in expand(study_grids(sweep) if params is None else _grids(params), typed, parser)]
    return {key_of(override) for override in set.union(*jobs) - set.intersection(*jobs)}


def _grids(params: DictConfig) -> list[Mapping[str, object]]:
    grids = OmegaConf.to_container(params, resolve=True)
    return [grids] if isinstance(grids, Mapping) else grids


def short_name(values: Mapping[str, str]) -> str:
    """Return a name such as `num_landmarks=4 seed=0` for the values of some settings.

    A setting is called by the last part of its key, or by the last two parts where another key ends alike.
    """
    paths = {key: key.replace("/", ".").split(".") for key in values}
    alike = Counter(path[-1] for path in paths.values())
    names = {key: path[-1] if alike[path[-1]] == 1 else ".".join(path[-2:]) for key, path in paths.items()}
    return " ".join(f"{names[key]}={_short(value)}" for key, value in values.items())


def _short(value: str) -> str:
    value = value.strip("'\"")
    try:
        return f"{float(value):.4g}" if len(value) > _LONGEST else value
    except ValueError:
        return value
