"""Checks of a composed configuration, before anything of the command itself runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.command_line import ConfigError
from cli.places import group_options, is_group

_TYPES = {bool: (bool, "true or false"), int: (int, "a whole number"), float: ((int, float), "a number")}
# Settings that take another word beside the type of their default.
_WORDS = {"trainer.deterministic": ("warn",)}


def default_config(folders: Sequence[Path]) -> DictConfig:
    """Return this job's configuration without its values: the chosen groups with their defaults."""
    hydra_config = HydraConfig.get()
    groups = [text for text in hydra_config.overrides.task if is_group(text.lstrip("+~").partition("=")[0], folders)]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(hydra_config.job.config_name, overrides=groups, run_mode=RunMode.RUN)


def check_groups(cfg: DictConfig, folders: Sequence[Path]) -> None:
    """Refuse a command that lacks a group which it needs, and a group that is set to what changes nothing.

    Raises:
        ConfigError: `~data` or `logger={}`, for example.
    """
    typed = HydraConfig.get().overrides.task
    for word in typed:
        key, _, value = word.lstrip("+").partition("=")
        if value.replace(" ", "") == "{}" and cfg.get(key.partition(".")[0]):
            choice = f"{key}=none" if is_group(key, folders) else f"~{key}"
            raise ConfigError(f"{word} changes nothing, because it adds nothing to what is there; {choice} empties it.")
    if not any(word.startswith("~") for word in typed):
        return
    loader = GlobalHydra.instance().config_loader()
    name = HydraConfig.get().job.config_name
    needed = loader.load_configuration(name, overrides=[], run_mode=RunMode.RUN)
    chosen = HydraConfig.get().runtime.choices
    for group, option in needed.hydra.runtime.choices.items():
        if option is not None and group not in chosen and is_group(group, folders):
            options = ", ".join(group_options(group, folders))
            raise ConfigError(f"{name} needs {group}, and ~{group} leaves it out; it is one of {options}.")
    for key in needed:
        if key != "hydra" and key not in cfg:
            raise ConfigError(f"{name} needs {key}; leave out ~{key}.")


def check_single(cfg: DictConfig, key: str) -> None:
    """Refuse `key=[A,B]` of a command that takes one file.

    Raises:
        ConfigError: the value is a list.
    """
    if isinstance(cfg[key], ListConfig):
        raise ConfigError(f"{key}={list(cfg[key])} is a list, and this command takes one file at a time: {key}=PATH.")


def check_types(cfg: DictConfig, defaults: DictConfig) -> None:
    """Refuse a value whose type is not its default's, such as `schedule.epochs=many`; a default of null takes all.

    Raises:
        ConfigError: a value of the wrong type, or a setting that has none.
    """
    typed = {word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task}
    wrong: dict[str, str] = {}
    for key, default in leaves(defaults):
        root = key.split(".")[0]
        if OmegaConf.is_missing(cfg, root):
            raise ConfigError(f"{root} has no value; add {root}=...")
        if default is None:
            continue
        value = OmegaConf.select(cfg, key)
        if value is None or value == default or value in _WORDS.get(key, ()):
            continue
        expected = _TYPES.get(type(default))
        if expected is None or value == "auto" or isinstance(value, ListConfig):
            continue  # words and lists are checked by what they are given to
        if not isinstance(value, expected[0]) or isinstance(value, bool) != isinstance(default, bool):
            kind = " or ".join([expected[1], *_WORDS.get(key, ())])
            wrong[key] = f"{key}={value} has to be {kind}, such as {default}."
    # Other settings can follow a typed one by interpolation, and it is the typed one that has to be changed.
    for key in sorted(wrong, key=lambda key: key not in typed):
        raise ConfigError(wrong[key])


def leaves(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value) of everything in `cfg` but Hydra's own node, with interpolations resolved."""
    for name in cfg:
        if not prefix and name == "hydra":
            continue
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(cfg, name):
            yield key, None
            continue
        try:
            value = cfg[name]
        except OmegaConfBaseException:  # only a running job has what this refers to
            value = None
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{key}.")
        else:
            yield key, OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
