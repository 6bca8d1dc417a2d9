"""Turns a user's mistake into one or two sentences that say what to change."""

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from cli.checks import leaves
from cli.command_line import SEARCH_PATH, ConfigError, config_folders, key_of
from cli.extras import explain_missing
from cli.places import CONFIG_DIR, group_options, is_group, list_groups, optional_groups
from cli.safe_names import UnsafeNameError
from cli.unknown_keys import nearest

# Where the configuration holds parts of the library that do not stand under their own names.
LIBRARY_PLACES = {"attention": "model.attention"}

# Errors of the operating system that say something about a place and not about this program.
_PLACE = {
    errno.EACCES: "there is no permission for it",
    errno.EPERM: "there is no permission for it",
    errno.EROFS: "the disk cannot be written to",
    errno.ENOTDIR: "a part of the path is a file, and has to be a folder",
    errno.EEXIST: "it is a file, and has to be a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "it does not exist and cannot be made",
}


def explain(error: BaseException, config_name: str) -> str | None:
    """Return the sentences for an error that the user can mend, and None for any other."""
    library = sys.modules.get("soft.errors")  # if it has not been loaded, the error is not from the library
    chain = list(_chain(error))
    for cause in chain:  # Hydra wraps what a constructor raises
        if library and isinstance(cause, (library.SettingError, library.RunError)):
            return cause.as_settings(LIBRARY_PLACES)
        if isinstance(cause, (ConfigError, UnsafeNameError)):
            return str(cause)
    for cause in chain:
        if message := explain_missing(cause) or _explain_place(cause):
            return message
    if message := next(filter(None, map(_explain_trainer, chain)), None):
        return message
    if isinstance(error, InstantiationException):
        return _explain_constructor(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)) or _is_group_of_a_number(error):
        found = _explain_overrides(config_name) or _explain_missing_key(error, config_name)
        return found or " ".join(str(error.__cause__ or error).split())
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _explain_trainer(error: BaseException) -> str | None:
    """Return why Lightning refuses what was typed for its Trainer; None for other errors, and if nothing was typed."""
    library = sys.modules.get("lightning.fabric.utilities.exceptions")
    typed = [word for word in sys.argv[1:] if key_of(word).startswith("trainer.")]
    if library is None or not typed or not isinstance(error, library.MisconfigurationException):
        return None
    return f"Lightning's Trainer does not take {' '.join(typed)}: {' '.join(str(error).split())}"


def _is_group_of_a_number(error: BaseException) -> bool:
    """Return whether Hydra refuses a word such as `data=4`, for which it has no error of its own."""
    return isinstance(error, ValueError) and str(error).startswith("Config group override must be")


def _explain_missing_key(error: BaseException, config_name: str) -> str | None:
    """Return what is wrong with a key that was not typed itself, such as one in a study's file."""
    missing = re.search(r"Key '.*' is not in struct\s+full_key: (\S+)", str(error.__cause__ or error))
    if missing is None:
        return None
    words = [word for word in sys.argv[1:] if not word.startswith("-") and is_group(key_of(word), [CONFIG_DIR])]
    known = [key for key in _known_keys(config_name, words, sys.argv[1:]) if not key.startswith("study.")]
    return f"{missing[1]} is not a setting{nearest(missing[1], known)}"


def _explain_place(error: BaseException) -> str | None:
    """Return what is wrong with the file or folder that an OSError names; None for other errors."""
    if not isinstance(error, OSError) or error.errno not in _PLACE:
        return None
    try:
        here = os.getcwd()
    except OSError:
        return "The current folder is not there any more; change to another one (cd) and start again."
    if error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename))
    if error.errno == errno.ENOENT and path.parent.is_dir() and os.access(path.parent, os.W_OK):
        return None  # a missing file that this program expected is no mistake of the user's
    return (
        f"{path} cannot be used: {_PLACE[error.errno]}. Change from {here} to a folder that can be written to, or "
        "choose the folder of the run with hydra.run.dir=... (hydra.sweep.dir=... of a sweep)."
    )


def _explain_constructor(error: InstantiationException) -> str | None:
    """Return which typed settings a class refused, and why; None if no settings were typed for it."""
    place = re.search(r"full_key: (\S+)", str(error))
    words = [word.lstrip("+") for word in sys.argv[1:]]
    group = place[1].partition(".")[0] if place else None
    typed = [word for word in words if group and word.startswith((f"{group}.", f"{group}="))]
    # The class of a whole group, or of one that stands elsewhere in the configuration, is not found by its place.
    typed = typed or [word for word in words if word.partition("=")[0].endswith("._target_")]
    if not typed:
        return None
    cause = " ".join(re.split("full_key|, set env var", str(error.__cause__ or error))[0].split())
    return f"{place[1] if place else 'The command'} does not take what was set by {' '.join(typed)}: {cause}"


def _explain_overrides(config_name: str) -> str | None:
    """Return what is wrong with the first override whose group, option or key is unknown, with the nearest names."""
    words = [word for word in sys.argv[1:] if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    folders = config_folders(words)
    known: list[str] | None = None
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            return f"{word!r} is not of the form key=value."
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if is_group(key, folders):
            if message := _explain_group(word, override, config_name, folders):
                return message
        elif override.type == OverrideType.CHANGE:
            if known is None:
                groups = [w for w in words if is_group(w.split("=")[0], folders)]
                known = _known_keys(config_name, groups, words)
            if known and key not in known and not any(name.startswith(f"{key}.") for name in known):
                return f"{key} is not a setting{nearest(key, [*known, *list_groups(folders)])}"
    return None


def _explain_group(word: str, override: Override, config_name: str, folders: Sequence[Path]) -> str | None:
    key = override.key_or_group
    if override.is_delete():
        return None if key not in optional_groups(config_name) else f"{word} has nothing to leave out."
    options = group_options(key, folders)
    for value in word.partition("=")[2].split(","):  # a sweep may choose several
        if value not in (*options, "null"):
            return f"{key}={value} is not known{nearest(value, options)} {key} is one of {', '.join(options)}."
    if override.type == OverrideType.CHANGE and not _known_keys(config_name, [word], sys.argv[1:]):
        own = [name for name in _known_keys(config_name, [], sys.argv[1:]) if name.startswith(f"{key}.")]
        return f"{word} is not for this command; its settings are {', '.join(own) or 'in --help'}."
    return None


def _known_keys(config_name: str, groups: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the dotted keys of this command's configuration with the chosen groups; [] if it does not compose."""
    groups = [word for word in groups if "," not in word]
    groups += [word for word in words if word.startswith(f"{SEARCH_PATH}=")]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = hydra.compose(config_name, overrides=groups)
        except HydraException:
            return []
    return [key for key, _ in leaves(cfg)]
