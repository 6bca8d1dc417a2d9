"""Keeps keys and passwords out of files and logs, whether they are typed, part of a URL or in the environment.

A typed secret is moved into an environment variable before Hydra, Lightning and W&B record the command line, and a
reference to the variable takes its place. Secrets in resolved configurations and in log messages are masked.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

MASK = "***"
_PREFIX = "SOFT_SECRET_"
_SHORTEST = 8  # characters; shorter secrets would be found by chance in other words

LOGGED = ("name", "group", "tags", "job_type", "notes")  # settings of loggers that they write down

_NAME = re.compile(r"(?:api_?key|(?:access|secret|private)_key(?:_id)?|token|secret|passwo?r?d|credentials?)$", re.I)
# In each pattern, the group is the secret.
_IN_URLS = (
    re.compile(r"\w://[^\s/@:'\"]*:((?!\$\{|\*{3}@)[^\s/@'\"]+)@"),  # scheme://user:password@
    re.compile(r"\bhttps?://((?!\$\{|\*{3}@)[^\s/@:'\"]+)@"),  # https://token@
    re.compile(
        r"[?&;][\w.-]*(?:token|sig|signature|key|keyid|secret|password|credential)=((?!\$\{|\*{3})[^\s&;'\"]+)", re.I
    ),
)


def hide_secrets(words: Sequence[str], env: MutableMapping[str, str] = os.environ) -> list[str]:
    """Return the words of a command line with references such as `${oc.env:SOFT_SECRET_1}` in place of secrets.

    The secrets themselves are put into `env`.
    """

    def hide(secret: str) -> str:
        known = next((name for name, value in env.items() if name.startswith(_PREFIX) and value == secret), None)
        name = known or next(name for n in range(1, 10**6) if (name := f"{_PREFIX}{n}") not in env)
        env[name] = secret
        return f"${{oc.env:{name}}}"

    hidden = []
    for word in words:
        key, equals, value = word.partition("=")
        bare = value.strip("'\"")
        if equals and _NAME.search(key) and bare not in ("", "null") and "${" not in bare:
            word = f"{key}={hide(bare)}"
        for pattern in _IN_URLS:
            word = pattern.sub(lambda match: _replace(match, hide(match[1])), word)
        hidden.append(word)
    return hidden


def masked(value: object) -> object:
    """Return a copy of plain containers in which `***` stands for every secret."""
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key, child) else masked(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(child) for child in value]
    return mask_text(value) if isinstance(value, str) else value


def masked_loggers(loggers: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of loggers, in plain containers, with `***` for secrets in what they write down.

    The others keep theirs, for a logger may need a key.
    """

    def shown(settings: object) -> object:
        if not isinstance(settings, Mapping):  # what is wrong with it is said where the logger is made
            return settings
        return {key: masked(value) if key in LOGGED else value for key, value in settings.items()}

    return {name: shown(settings) for name, settings in loggers.items()}


def mask_text(text: str) -> str:
    """Return `text` with `***` for passwords and tokens in URLs and for secrets that the environment holds."""
    for secret in _secrets_of(os.environ):
        text = text.replace(secret, MASK)
    for pattern in _IN_URLS:
        text = pattern.sub(lambda match: _replace(match, MASK), text)
    return text


class MaskingFormatter(logging.Formatter):
    """Formatter that masks secrets in messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_text(super().format(record))


def _is_secret(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str) and value != "" and _NAME.search(key) is not None


def _secrets_of(env: Mapping[str, str]) -> Iterator[str]:
    found = {value for name, value in env.items() if name.startswith(_PREFIX) or _NAME.search(name)}
    return iter(sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True))


def _replace(match: re.Match[str], new: str) -> str:
    return match[0][: match.start(1) - match.start()] + new + match[0][match.end(1) - match.start() :]
