"""The kinds of error that end in a sentence instead of a traceback, and lists in such sentences."""

from collections.abc import Iterable


class SettingError(ValueError):
    """A setting, a file or a machine does not fit; the message says what to change.

    One or two plain sentences that name the value, the limit and the setting. Entry points print it without a
    traceback and exit with 2; everything else that is raised is a defect of ours and keeps its traceback.
    """


class RunError(RuntimeError):
    """A run that started well cannot go on: the disk is full, the loss is no number any more.

    The message says what happened, what was saved and what to change. Entry points print it without a traceback and
    exit with 1.
    """


def first_few(items: Iterable[object], shown: int = 3) -> str:
    """Return the first items as text, and how many more there are: `a, b, c and 4 more`."""
    texts = [str(item) for item in items]
    rest = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(texts[:shown]) + rest
