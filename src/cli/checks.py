"""Checks of a composed configuration, before anything of the command itself runs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from cli.command_line import ConfigError, key_of, typed_search_path
from cli.places import CONFIG_DIR, group_options, is_group
from cli.unknown_keys import check_known, check_replaced

_TYPES = {
    bool: (bool, "true or false"),
    int: ((int, float), "a number"),  # the object that receives it checks whether it has to be whole
    float: ((int, float), "a number"),
    list: (list, "a list"),
    str: ((str, int, float), "a text"),
}
# Settings that take a word as well as values of their default's type.
_WORDS = {"trainer.deterministic": ("warn",)}
# Settings that take one value or a list of several, by the last part of their names.
_ONE_OR_SEVERAL = frozenset({"checkpoint", "class_weights", "devices", "freeze", "images", "img_size", "source_size"})

# For each command, groups and settings that it does not use: other settings refer to them, or a model chooses them for
# its training. A name with a dot at its end stands for the settings of a group, but not for the choice of the group.
_WITHOUT_EFFECT = {
    "benchmark": (
        *("augment", "suggested"),
        *(f"data.{name}" for name in ("augment", "batch_size", "expected", "num_workers", "root", "sampling", "split")),
    ),
    "evaluate": ("augment", "data.augment", "data.sampling", "logger.csv", "schedule"),
    "export": ("augment", "data", "schedule", "seed"),
    "predict": ("augment", "data.augment", "data.sampling", "schedule", "seed"),
    "verify_data": ("augment", "data.augment", "data.sampling", "suggested"),
    "visualize": ("augment", "data.augment", "data.sampling", "schedule", "seed"),
    "write_shards": ("augment", "data.", "suggested"),
}
_FOLDERS = (".dirpath", ".folder", ".save_dir")  # ends of the names of settings that are folders to write to
# Used all the same, as (command, setting), although `_WITHOUT_EFFECT` covers it.
_EXCEPT = frozenset({("write_shards", "data.root")})


def default_config(folders: Sequence[Path]) -> DictConfig:
    """Return this job's configuration with its chosen groups, but without its typed values."""
    hydra_config = HydraConfig.get()
    groups = [text for text in hydra_config.overrides.task if is_group(key_of(text), folders)]
    return _load(hydra_config.job.config_name, groups)


def check_keys(cfg: DictConfig, defaults: DictConfig, folders: Sequence[Path]) -> None:
    """Refuse settings that nothing reads, and values in the place of whole groups.

    Raises:
        ConfigError: as in `cli.unknown_keys`.
    """
    hydra_config = HydraConfig.get()
    typed = hydra_config.overrides.task
    check_replaced(cfg, defaults, typed, folders)
    if len(folders) > 1 or any(word.startswith("+") for word in typed):
        words = [word for word in typed if word.partition("=")[2] in group_options(key_of(word), [CONFIG_DIR])]
        known = leaves(_load(hydra_config.job.config_name, words))
        check_known([key for key, _ in leaves(cfg)], [key for key, _ in known])


def _load(name: str, groups: Sequence[str]) -> DictConfig:
    """Return the configuration `name` with these choices of groups, which may be in folders that were typed."""
    loader, folders = GlobalHydra.instance().config_loader(), typed_search_path(HydraConfig.get().overrides.hydra)
    return loader.load_configuration(name, overrides=[*groups, *folders], run_mode=RunMode.RUN)


def default_settings(name: str) -> dict[str, object]:
    """Return the settings of the command conf/`name`.yaml where nothing is typed, resolved, as plain containers."""
    cfg = _load(name, [])
    with flag_override(cfg, ["readonly", "struct"], False):
        del cfg["hydra"]
        cfg.output_dir = ""  # its default is the folder of a running job, and there is none here
    return OmegaConf.to_container(cfg, resolve=True)


def check_groups(cfg: DictConfig, folders: Sequence[Path]) -> None:
    """Refuse a command that lacks a group which it needs, and a setting that would change nothing.

    Raises:
        ConfigError: `~data`, `logger={}` or, for an evaluation, `augment=light`, for example.
    """
    typed, name = HydraConfig.get().overrides.task, HydraConfig.get().job.config_name
    for word in typed:
        if has_no_effect(name, key_of(word)):
            raise ConfigError(f"{word} would change nothing, because {name} does not use it; leave it out.")
    for word in typed:
        key, _, value = word.lstrip("+").partition("=")
        if value.replace(" ", "") == "{}" and cfg.get(key.partition(".")[0]):
            choice = f"{key}=none" if is_group(key, folders) else f"~{key}"
            raise ConfigError(f"{word} changes nothing, because it adds nothing to what is there; {choice} empties it.")
    if not any(word.startswith("~") for word in typed):
        return
    needed = _load(name, [])
    chosen = HydraConfig.get().runtime.choices
    for group, option in needed.hydra.runtime.choices.items():
        if option is not None and group not in chosen and is_group(group, folders):
            options = ", ".join(group_options(group, folders))
            raise ConfigError(f"{name} needs {group}, and ~{group} leaves it out; it is one of {options}.")
    for key in needed:
        if key != "hydra" and key not in cfg:
            raise ConfigError(f"{name} needs {key}; leave out ~{key}.")


def has_no_effect(command: str, key: str) -> bool:
    """Return whether a group or setting is in a command's configuration without being used by the command."""
    places = _WITHOUT_EFFECT.get(command, ())
    unused = any(f"{key}.".startswith(f"{place.rstrip('.')}.") for place in places)
    return unused and f"{key}." not in places and (command, key) not in _EXCEPT


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
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        words = _WORDS.get(key, ())
        if value == default or value in words or _takes(key, default, value):
            continue
        kind = " or ".join([_TYPES[type(default)][1], *words])
        example = f", such as {default}" if default not in ("", []) else ""
        wrong[key] = f"{key}={'null' if value is None else value} has to be {kind}{example}."
    # Other settings can follow a typed one by interpolation, so the typed one, which has to be changed, is named first.
    for key in sorted(wrong, key=lambda key: key not in typed):
        raise ConfigError(wrong[key])


def _takes(key: str, default: object, value: object) -> bool:
    """Return whether `value` is of the kind of `default`; the object that receives the value checks it further."""
    if key.rpartition(".")[2] in _ONE_OR_SEVERAL and not isinstance(value, dict):
        return True
    if value is None:  # timm would silently take the model's own default for null
        return not key.startswith("model.") or key == "model.attention.global_scale"  # null means something here
    if key.endswith("._convert_"):  # how Hydra hands lists over, which a run cannot choose
        return False
    if key.endswith("._target_"):
        return isinstance(value, str)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, _TYPES[type(default)][0]) or (value == "auto" and isinstance(default, int | float))


def check_folders(settings: Iterable[tuple[str, object]]) -> None:
    """Refuse folders to write to that can be neither written to nor made.

    Args:
        settings: (dotted key, value) pairs, of which only those of such folders are checked.

    Raises:
        ConfigError: a folder's nearest existing parent is a file, or may not be written to.
    """
    for key, value in settings:
        if not isinstance(value, str) or not (key in ("out", "output_dir") or key.endswith(_FOLDERS)):
            continue
        path = Path(value).expanduser().absolute()
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        if not there.is_dir():
            raise ConfigError(f"{key}={value} cannot be made: {there} is a file, and has to be a folder.")
        if not os.access(there, os.W_OK):
            raise ConfigError(f"{key}={value} cannot be written to: there is no permission for {there}.")


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
        except OmegaConfBaseException:  # it refers to something that only a running job has
            value = None
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{key}.")
        else:
            yield key, OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
