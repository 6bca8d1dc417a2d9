"""Names a run among others: by its sweep, and by what varies there."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.grid import MULTIRUN, expand, study_grids

_LONGEST = 8  # characters; a number that a search draws is longer, and is rounded


@dataclass(frozen=True)
class JobName:
    """Name of a run, which says what varies (None where nothing does), and of its sweep (None where there is none)."""

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
    values = {key: word.partition("=")[2] for word in config.overrides.task if (key := key_of(word)) in varied}
    study = settings.get("study") or {}
    group = f"{study['name']}-{study['scale']}" if "name" in study else sweep.name
    return JobName(short_name(values) or None, group)


def varied_settings(sweep: DictConfig, loader: ConfigLoader) -> set[str]:
    """Return the keys of what is not the same in all jobs of a sweep, from its multirun.yaml."""
    typed = list(sweep.hydra.overrides.task)
    parser, params = OverridesParser.create(config_loader=loader), sweep.hydra.sweeper.get("params")
    if "trials" in sweep.hydra.sweeper:  # a search, which draws its jobs one after the other
        overrides = parser.parse_overrides(typed)
        several = {override.get_key_element() for override in overrides if override.is_sweep_override()}
        return several | (set(params) - {override.get_key_element() for override in overrides})
    jobs = [set(job) for job in expand(study_grids(sweep) if params is None else _grids(params), typed, parser)]
    return {key_of(word) for word in set.union(*jobs) - set.intersection(*jobs)}


def _grids(params: DictConfig) -> list[Mapping[str, object]]:
    grids = OmegaConf.to_container(params, resolve=True)
    return [grids] if isinstance(grids, Mapping) else grids


def key_of(word: str) -> str:
    """Return the key of an override: `model.name` of `+model.name=soft_tiny`."""
    return word.partition("=")[0].lstrip("+~")


def short_name(values: Mapping[str, str]) -> str:
    """Return `num_landmarks=4 seed=0`: the last part of each key, with the one before it where two end alike."""
    parts = {key: key.replace("/", ".").split(".") for key in values}
    alike = Counter(words[-1] for words in parts.values())
    names = {key: words[-1] if alike[words[-1]] == 1 else ".".join(words[-2:]) for key, words in parts.items()}
    return " ".join(f"{names[key]}={_short(value)}" for key, value in values.items())


def _short(value: str) -> str:
    value = value.strip("'\"")
    try:
        return f"{float(value):.4g}" if len(value) > _LONGEST else value
    except ValueError:
        return value
