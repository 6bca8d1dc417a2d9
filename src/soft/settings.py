"""Checks of single settings; each takes the name that its SettingError shows, such as seed or `data.img_size`.

The second form, in backticks, is for arguments: see `soft.errors`.
"""

import math
from collections.abc import Collection

from soft.errors import SettingError


def check_whole(name: str, value, low: int) -> None:
    """Refuse everything but integers of at least `low`."""
    if not _is_whole(value, low):
        raise SettingError(f"{name}={value!r} has to be a whole number of at least {low}.")


def check_number(name: str, value, low: float, high: float = math.inf) -> None:
    """Refuse everything but finite numbers from `low` to `high`."""
    if not _is_number(value, low, high):
        raise SettingError(f"{name}={value!r} has to be a number {_limits(low, high)}.")


def check_positive(name: str, value, otherwise: str) -> None:
    """Refuse everything but finite numbers above 0; `otherwise` says what else the caller takes."""
    if not (_is_number(value, 0, math.inf) and value > 0):
        raise SettingError(f"{name}={value!r} has to be a number above 0, or {otherwise}.")


def check_rate(name: str, value) -> None:
    """Refuse everything but numbers from 0 up to, but not including, 1, such as a rate of dropout."""
    if not _is_number(value, 0, 1) or value == 1:
        raise SettingError(f"{name}={value!r} has to be a number from 0 up to, but not including, 1.")


def check_numbers(name: str, values, count: int, low: float, high: float = math.inf) -> None:
    """Refuse everything but lists of `count` finite numbers from `low` to `high`."""
    if not (_is_list(values, count) and all(_is_number(value, low, high) for value in values)):
        raise SettingError(f"{name}={_shown(values)} has to be a list of {count} numbers {_limits(low, high)}.")


def check_range(name: str, pair, low: float, high: float = math.inf) -> None:
    """Refuse everything but [smallest, largest], with both numbers from `low` to `high`."""
    check_numbers(name, pair, 2, low, high)
    if pair[0] > pair[1]:
        raise SettingError(f"{name}={_shown(pair)} has to be [smallest, largest].")


def check_pixels(name: str, value) -> None:
    """Refuse everything but a whole number of pixels or a pair of them, [height, width]."""
    if not (_is_whole(value, 1) or (_is_list(value, 2) and all(_is_whole(side, 1) for side in value))):
        raise SettingError(f"{name}={_shown(value)} has to be a whole number of pixels, or two as [height, width].")


def check_choice(name: str, value, choices: Collection[str]) -> None:
    """Refuse everything but the texts in `choices`."""
    if not (isinstance(value, str) and value in choices):
        raise SettingError(f"{name}={_shown(value)} is not known; it is one of {', '.join(choices)}.")


def check_text(name: str, value) -> None:
    """Refuse everything but a text that is not empty."""
    if not (isinstance(value, str) and value):
        raise SettingError(f"{name}={_shown(value)} has to be a text that is not empty.")


def as_text(name: str, value) -> str:
    """Return a text that is not empty; a number, which a command line makes of a name of digits, is written out."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    check_text(name, value)
    return value


def check_flag(name: str, value) -> None:
    """Refuse everything but True and False."""
    if not isinstance(value, bool):
        raise SettingError(f"{name}={_shown(value)} has to be true or false.")


def _is_whole(value, low: int) -> bool:
    # Python counts True as 1, but `batch_size=true` is a slip.
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_number(value, low: float, high: float) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value) and low <= value <= high


def _is_list(value, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _limits(low: float, high: float) -> str:
    return f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


def _shown(value) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
