"""The kinds of error that end in a sentence instead of a traceback, and lists in such sentences."""

import re
from collections.abc import Iterable, Mapping

_ARGUMENT = re.compile(r"`((?:\w+\.)+)(\w+)`")


class _SentenceError(Exception):
    """An error whose message is for the user.

    The message names an argument in backticks, after the part of the library that takes it: "`data.img_size`=0 has to
    be ...". `str` gives what a caller of the library knows, img_size, and `as_settings` what is typed for a command,
    data.img_size.

    Attributes:
        message: with the backticks, for another error of this kind to quote.
    """

    def __init__(self, message: str):
        super().__init__(_ARGUMENT.sub(r"\2", message))
        self.message = message

    def as_settings(self, places: Mapping[str, str] | None = None) -> str:
        """Return the message with the names of settings.

        Args:
            places: where a part of the library stands in the configuration, if not under its own name:
                {"attention": "model.attention"}.
        """

        def setting(match: re.Match[str]) -> str:
            part = match[1].removesuffix(".")
            return f"{(places or {}).get(part, part)}.{match[2]}"

        return _ARGUMENT.sub(setting, self.message)


class SettingError(_SentenceError, ValueError):
    """Error of a setting, a file or a machine that does not fit; the message says what to change.

    The message is one or two plain sentences that name the value, the limit and the setting. Commands print it without
    a traceback and exit with 2. Any other error of the library but `RunError` is a defect of ours and keeps its
    traceback.
    """


class RunError(_SentenceError, RuntimeError):
    """Error of a run that started well and cannot go on: the disk is full, or the loss is no longer finite.

    The message says what happened, what was saved and what to change. Commands print it without a traceback and exit
    with 1.
    """


def first_few(items: Iterable[object], shown: int = 3, separator: str = ", ") -> str:
    """Return the first items as text, and how many more there are: `a, b, c and 4 more`."""
    texts = [str(item) for item in items]
    rest = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return separator.join(texts[:shown]) + rest
