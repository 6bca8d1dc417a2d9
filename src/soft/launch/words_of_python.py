"""Messages of the library in words of Python: the names of arguments in place of a command's settings."""

import re
from collections.abc import Callable
from functools import wraps

from soft.errors import RunError, SettingError

# Settings of the commands in messages, and what they are in Python; the first pattern that matches a place is taken.
_NAMES = {
    r"; without resume=\.\.\., this command begins another run in a folder of its own": ", or choose another folder",
    r", or take trainer=cpu_ddp, which allows it": "",
    r" with its weights by '?checkpoint=.+": " of the model that soft.load_model reads from it.",
    r"callbacks\.last_checkpoint\.every_n_train_steps": "checkpoint_every",
    r"another folder with hydra\.run\.dir": "another folder",
    r"hydra\.run\.dir": "folder",
    r"schedule\.epochs": "epochs",
    r"optimizer\.lr\b": "lr",
    r"ema\.decay": "ema_decay",
    r"\bema\.validate_raw=true": "validate_raw=True",
    r"trainer=trainer\b": "This call",
    r"trainer=auto\b": "accelerator='auto'",
    r"(?<![/\w])trainer\.(?!py\b)(?=\w)": "",
}
_NAME = re.compile("|".join(f"({pattern})" for pattern in _NAMES))


def in_words_of_python(function: Callable) -> Callable:
    """Return a function that does the same, and whose error messages name its arguments, not a command's settings."""
    words = list(_NAMES.values())

    def translate(text: str) -> str:
        return _NAME.sub(lambda match: words[match.lastindex - 1], text)

    @wraps(function)
    def call(*arguments: object, **options: object) -> object:
        try:
            return function(*arguments, **options)
        except (SettingError, RunError) as error:
            error.args, error.message = (translate(str(error)),), translate(error.message)
            raise

    return call
