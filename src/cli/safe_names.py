"""Checks that names which become parts of paths do not lead out of their folder."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath, PureWindowsPath

# Settings of loggers and callbacks whose values are appended to a folder. Folders themselves may be anywhere.
_NAMES = frozenset({"name", "version", "id", "filename", "prefix", "sub_dir"})


class UnsafeNameError(ValueError):
    """A name that would lead out of its folder; the message is for the user."""


def inside(name: object, key: str = "name") -> str:
    """Return `name` as text if it stays below the folder to which it is appended; it may hold `/`.

    Args:
        name: the name.
        key: the setting that holds it, for the message.

    Raises:
        UnsafeNameError: the name is absolute, leads upwards, or holds characters that no file name should.
    """
    name = str(name)
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or path.drive or ".." in path.parts or not name.isprintable():
            raise UnsafeNameError(
                f"{key}={name!r} would lead out of its folder; a name has no '..', no '/' at its start and no control "
                "characters. Choose the folder itself with hydra.run.dir or hydra.sweep.dir."
            )
    return name


def check_names(settings: Iterable[tuple[str, object]]) -> None:
    """Refuse settings of loggers and callbacks that hold a name which would lead out of its folder.

    Args:
        settings: (dotted key, value) pairs, of which only those of loggers and callbacks are checked.

    Raises:
        UnsafeNameError: a name leads out of its folder.
    """
    for key, value in _names(settings):
        inside(value, key)


def _names(settings: Iterable[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    for key, value in settings:
        parts = key.split(".")
        if parts[0] in ("logger", "callbacks") and parts[-1] in _NAMES and isinstance(value, str):
            yield key, value
