"""What a checkpoint and its run's folder record: the data, as objects, and the command.

A recorded configuration can only name classes that conf/base, conf/data or conf/augment name, and give them arguments.
`hydra.utils.instantiate` is not used for it, because that would call whatever `_target_` says, and would read the
environment for `${oc.env:...}`.
"""

import functools
import logging
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from hydra.utils import get_class

from cli.command_line import ConfigError, as_typed, key_of, parse, search_path_as_typed, typed_search_path, unquote
from cli.places import CONFIG_DIR
from cli.run_folder import recorded_words
from cli.secrets import mask_text, masked
from soft.runs.folder import run_folder

log = logging.getLogger(__name__)

_TASKS = "soft.data.tasks.task_datamodule.TaskDataModule"


def build_recorded(config: Mapping[str, object], source: str) -> object:
    """Build the object that `config` describes by `_target_` and arguments, with the objects nested in it.

    Args:
        config: the configuration, in plain containers.
        source: the file that holds the configuration, for the message.

    Raises:
        ConfigError: there is no `_target_`, or no file of conf/base, conf/data or conf/augment names it.
    """
    target = config.get("_target_")
    if target is None:
        raise ConfigError(
            f"{source} does not say how its data was read, because early checkpoints of soft.fit did not. Choose the "
            "data, for example with data=imagenet."
        )
    if target not in _targets():
        raise ConfigError(
            f"{source} wants its data read by {target!r}, which is not one of {', '.join(sorted(_targets()))}. If you "
            "trust the weights in it, choose the data yourself, for example with data=imagenet."
        )
    arguments = {key: value for key, value in config.items() if not (key.startswith("_") or key == "recipe")}
    built = {
        key: build_recorded(value, source) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in arguments.items()
    }
    return get_class(target)(**built)


@functools.cache
def _targets() -> frozenset[str]:
    files = [path for group in ("base", "data", "augment") for path in (CONFIG_DIR / group).glob("*.yaml")]
    named = (yaml.safe_load(path.read_text()).get("_target_") for path in files)
    return frozenset(target for target in named if target)


def recorded_data(
    recorded: Mapping[str, object], changes: Mapping[str, object], source: str, env: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """Return the settings of a checkpoint's training data, with typed settings in place of recorded ones.

    Args:
        recorded: the settings in the checkpoint, in plain containers.
        changes: settings that were typed; None stands for those that were not.
        source: the checkpoint, for messages.
        env: the environment, whose IMAGENET_ROOT replaces a recorded folder of ImageNet that does not exist.

    Raises:
        ConfigError: the recorded data comes from the network. A file does not decide what this machine contacts.
    """
    typed = {key: value for key, value in changes.items() if value is not None}
    data, root = {**recorded, **typed}, str(recorded.get("root") or "")
    if data.get("_target_") == _TASKS and "cache" not in typed:
        data["cache"] = None  # a file does not decide where this machine writes either
    if (
        "root" not in typed
        and data.get("dataset") == "imagenet"
        and not Path(root).is_dir()
        and env.get("IMAGENET_ROOT")
    ):
        data["root"] = env["IMAGENET_ROOT"]
        log.warning(
            "%s was trained on data.root=%s, which is not here: $IMAGENET_ROOT, %s, is read instead.",
            source,
            root or None,
            data["root"],
        )
    remote = [key for key in ("root", "cache", "path") if key not in typed and "://" in str(data.get(key) or "")]
    if data.get("dataset") == "hf" and "path" not in typed and not Path(str(data.get("path"))).exists():
        remote.append("path")
    if remote:
        key = remote[0]
        raise ConfigError(
            f"{source} was trained on data that is not on this machine: data.{key}={data[key]}. If you trust the file, "
            f"type {as_typed(f'data.{key}', data[key])}."
        )
    return data


def evaluated_recipe(
    recorded: Mapping[str, object] | None, given: Mapping[str, object], chosen: Collection[str] = ()
) -> dict[str, object]:
    """Return a checkpoint's recipe, with the settings of an evaluation in place of recorded ones, and without secrets.

    Args:
        recorded: the recipe, in plain containers; None for a file that has none.
        given: the evaluation's settings; None stands for those that were not typed.
        chosen: which of the groups `model` and `data` were chosen anew as a whole.
    """
    recipe = dict(recorded or {})
    for group in ("model", "data"):
        recipe[group] = _merged({} if group in chosen else recipe.get(group) or {}, given[group])
    return masked(recipe)


def _merged(ours: Mapping[str, object], typed: Mapping[str, object]) -> dict[str, object]:
    merged = dict(ours)
    for key, value in typed.items():
        if isinstance(value, Mapping):
            inner = ours.get(key)
            if isinstance(inner, Mapping) or inner is None:
                merged[key] = _merged(inner or {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def typed_command() -> str:
    """Return the command of this process as it was typed, without secrets."""
    return mask_text(shlex.join(["python", *map(unquote, sys.argv)]))


def own_words() -> list[str]:
    """Return this command's overrides as a run records them: without secrets, and without Hydra's own settings.

    Of those it keeps the one that says where configurations are found.
    """
    overrides = parse(sys.argv[1:]).overrides
    own = [word for word in overrides if not key_of(word).startswith("hydra")]
    return [mask_text(word) for word in [*typed_search_path(overrides), *own]]


def training_command(checkpoint: str) -> str | None:
    """Return the command that started the training of a checkpoint in its run's folder; None if it is not recorded."""
    folder = run_folder(Path(checkpoint).expanduser().absolute())
    words = recorded_words(folder) if folder else None
    if words is None:
        return None
    typed = [shlex.quote(unquote(word)) for word in search_path_as_typed(words)]
    return mask_text(" ".join(["python src/train.py", *typed]))
