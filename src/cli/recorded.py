"""Builds objects from the configuration that a checkpoint holds, which is treated as data.

The configuration can name only the classes that conf/data and conf/augment name, and give them arguments.
`hydra.utils.instantiate` would call whatever `_target_` says and read the environment for `${oc.env:...}`.
"""

import functools
from collections.abc import Mapping

import yaml
from hydra.utils import get_class

from cli.command_line import ConfigError
from cli.places import CONFIG_DIR


def build_recorded(config: Mapping[str, object], source: str) -> object:
    """Build the object that `config` describes by `_target_` and arguments, with the objects nested in it.

    Args:
        config: the configuration, in plain containers.
        source: the file that holds the configuration, for the message.

    Raises:
        ConfigError: no file of conf/base, conf/data or conf/augment names the `_target_`.
    """
    target = config.get("_target_")
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
