"""What a search by Optuna varies, read from Hydra's overrides."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from cli.command_line import ConfigError


def split(params: Mapping[str, str], typed: Sequence[str], parser: OverridesParser) -> tuple[dict[str, Any], list[str]]:
    """Return Optuna's distribution of each setting that is searched, and the overrides that hold in every trial.

    A setting that is typed with one value holds in every trial. A setting that is typed with several values is searched
    among those.

    Raises:
        ConfigError: nothing is left to search, or a setting has no distribution.
    """
    overrides = {override.get_key_element(): override for override in parser.parse_overrides(list(typed))}
    space = {key: parser.parse_override(f"{key}={text}") for key, text in params.items() if key not in overrides}
    space |= {key: override for key, override in overrides.items() if override.is_sweep_override()}
    held = [override.input_line for override in overrides.values() if not override.is_sweep_override()]
    if not space:
        raise ConfigError("Nothing is left to search; leave a setting of hydra.sweeper.params open.")
    return {key: _distribution(override) for key, override in space.items()}, held


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not override.is_sweep_override():
        raise ConfigError(
            f"hydra.sweeper.params.{override.input_line} has to be choice(...), range(...) or interval(...)."
        )
    if not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_iterator()))
    interval = override.value()
    whole = isinstance(interval.start, int) and isinstance(interval.end, int)
    distribution = IntDistribution if whole else FloatDistribution
    return distribution(interval.start, interval.end, log="log" in interval.tags)


def holds(distribution: Any, value: object) -> bool:
    """Return whether a setting's value is one of those that a distribution draws."""
    if hasattr(distribution, "choices"):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high
