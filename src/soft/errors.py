"""The kinds of error that end in a sentence instead of a traceback."""


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
