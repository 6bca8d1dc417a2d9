"""The one kind of error that is the user's to mend."""


class SettingError(ValueError):
    """A setting, a file or a machine does not fit; the message says what to change.

    One or two plain sentences that name the value, the limit and the setting. Entry points print it without a
    traceback and exit with 2; everything else that is raised is a defect of ours and keeps its traceback.
    """
