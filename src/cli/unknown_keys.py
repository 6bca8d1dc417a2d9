"""Refuses settings that nothing reads, on the command line and in configuration files of the user's."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cli.command_line import ConfigError, key_of
from cli.places import CONFIG_DIR, is_group

# Groups whose keys are arguments of what they choose, which refuses those that it does not take.
_ARGUMENTS = frozenset(
    {"augment", "benchmark", "callbacks", "data", "logger", "model", "optimizer", "study", "suggested", "trainer"}
)


def nearest(word: str, names: Sequence[str]) -> str:
    """Return the end of a sentence about an unknown name: `; did you mean A or B?`, or a full stop."""
    # The right name in the wrong place comes first (epochs for schedule.epochs), then the nearest spelling.
    moved = [name for name in names if "." in name and name.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = list(dict.fromkeys([*moved, *difflib.get_close_matches(word, names, n=3, cutoff=0.5)]))[:3]
    return f"; did you mean {' or '.join(close)}?" if close else "."


def check_known(settings: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a setting in a group that this project's own configuration does not have.

    A key outside all groups may be there for other settings to refer to.

    Args:
        settings: dotted keys of the composed configuration.
        known: dotted keys of this project's own configuration of the same command.

    Raises:
        ConfigError: the message names the first unknown key and the nearest known ones.
    """
    for key in settings:
        if (
            "." in key
            and key.partition(".")[0] not in _ARGUMENTS
            and not any(f"{key}.".startswith(f"{name}.") for name in known)
        ):
            raise ConfigError(f"{key} is not a setting{nearest(key, known)}")


def check_replaced(cfg: DictConfig, defaults: DictConfig, typed: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse a single value in the place of a group of settings, such as `model.attention=softmax`.

    Args:
        typed: the overrides of the command.
        folders: where config groups are found.

    Raises:
        ConfigError: the message says how the group is chosen.
    """
    for word in typed:
        key, value = key_of(word), word.partition("=")[2]
        if word.startswith("~") or is_group(key, folders):
            continue
        if not isinstance(OmegaConf.select(defaults, key), DictConfig):
            continue
        if not OmegaConf.is_dict(OmegaConf.select(cfg, key)):
            groups = [name for name in (key.replace(".", "/"), key.rpartition(".")[2]) if is_group(name, [CONFIG_DIR])]
            instead = f"type {groups[0]}={value}" if groups else f"set them one by one, as {key}.NAME=VALUE"
            raise ConfigError(f"{word} would put one value in the place of several settings; {instead}.")
