"""Objects from a configuration that came with a file. It is data: it names classes of ours and gives them arguments.

Not `hydra.utils.instantiate`, which calls whatever `_target_` says and reads the environment for `${oc.env:...}`.
"""

import functools
from collections.abc import Mapping

import yaml
from hydra.utils import get_class

from entrypoint import CONFIG_DIR, ConfigError


def build_recorded(config: Mapping[str, object], source: str) -> object:
    """The object that `config`, plain containers, describes by `_target_` and arguments, with those nested in it.

    Args:
        source: the file that holds it, for the message.

    Raises:
        ConfigError: a `_target_` that no file of conf/base, conf/data or conf/augment has.
    """
    target = config.get("_target_")
    if target not in _targets():
        raise ConfigError(
            f"{source} wants its data read by {target!r}, which is not one of {', '.join(sorted(_targets()))}. If you "
            "trust the weights in it, say data=imagenet, for example."
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
