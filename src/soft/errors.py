"""Errors that a command reports in a sentence instead of a traceback."""


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
