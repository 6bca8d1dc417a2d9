"""The kinds of error that end in a sentence instead of a traceback, and lists in such sentences."""

from collections.abc import Iterable


class SettingError(ValueError):
    """Error of a setting, a file or a machine that does not fit; the message says what to change.

    The message is one or two plain sentences that name the value, the limit and the setting. Commands print it without
    a traceback and exit with 2. Any other error of the library but `RunError` is a defect of ours and keeps its
    traceback.
    """


class RunError(RuntimeError):
    """Error of a run that started well and cannot go on: the disk is full, or the loss is no longer finite.

    The message says what happened, what was saved and what to change. Commands print it without a traceback and exit
    with 1.
    """


def first_few(items: Iterable[object], shown: int = 3, separator: str = ", ") -> str:
    """Return the first items as text, and how many more there are: `a, b, c and 4 more`."""
    texts = [str(item) for item in items]
    rest = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return separator.join(texts[:shown]) + rest
