"""Composes the jobs of a sweep, some of which may lack a setting that is typed for all."""

from collections.abc import Iterable, Sequence

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException


class JobSettings:
    """The configurations of a sweep's jobs.

    A study of attention variants has points with landmarks and points without, so `model.attention.num_landmarks=4`
    can hold for some of them alone. Such a word is left out where the option that the job chooses for its group, such
    as `model/attention=softmax`, has no such setting.

    Attributes:
        left_out: for each word that was left out, the options that lack its setting, such as model/attention=softmax.
    """

    def __init__(self, context: HydraContext, config: DictConfig):
        """Compose with Hydra's `context` and the sweep's `config`."""
        self._context = context
        self._config = config
        self._reached: set[str] = set()
        self.left_out: dict[str, list[str]] = {}
        self._errors: dict[str, Exception] = {}

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
        """Return a job's configuration, and its overrides without those that are left out.

        Raises:
            HydraException: the job does not compose, and not because an option lacks a typed setting.
        """
        words = list(overrides)
        while True:
            try:
                job = self._context.config_loader.load_sweep_config(self._config, words)
            except HydraException as error:
                word, option = _without_setting(error, words)
                if word is None:
                    raise
                words.remove(word)
                self._errors.setdefault(word, error)
                options = self.left_out.setdefault(word, [])
                options += [option] if option not in options else []
            else:
                self._reached.update(words)
                return job, words

    def check(self) -> None:
        """Raise the error of a word that was left out of every job.

        Raises:
            HydraException: no job has the setting.
        """
        for word, error in self._errors.items():
            if word not in self._reached:
                raise error


def _without_setting(error: Exception, words: Iterable[str]) -> tuple[str | None, str]:
    """Return the word whose setting does not exist, and the option that lacks it; (None, "") for any other error."""
    cause = error.__cause__
    key = cause.full_key if isinstance(cause, OmegaConfBaseException) else None
    values = {word.partition("=")[0]: word for word in words}
    if not key or key not in values:
        return None, ""
    for name, word in values.items():
        if "/" in name and key.startswith(f"{name.replace('/', '.')}."):
            return values[key], word
    return None, ""
