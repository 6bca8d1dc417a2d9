"""Writes files of a run whole or not at all, and says in a sentence when the disk is full."""

import csv
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from soft.errors import RunError

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on the size of files (ulimit -f) is reached",
}


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn the error of a write to `path` that found no room on the disk into a RunError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error  # torch.save fails a second time while it handles the first error
        while cause is not None and getattr(cause, "errno", None) not in _NO_ROOM:
            cause = cause.__context__
        if cause is None:
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise RunError(
            f"{path} was not written: {_NO_ROOM[cause.errno]} ({free:,.0f} MiB are free, and it needs more). Make room "
            "and go on with resume=auto, as the last checkpoint is whole; hydra.run.dir=... puts a run on another disk."
        ) from error


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` by what `write` writes; a reader finds the old content or the new, never a part.

    The content is written to a file beside `path` with a fixed name, forced to the disk, and renamed to `path`.

    Raises:
        RunError: there is no room on the disk; `path` is unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    _force_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replace `path` by a text file, as `replace_file` does."""
    # Names of files may hold bytes that are no text.
    replace_file(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def replace_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Replace `path` by a table of `rows`, the names of the columns first, as `replace_file` does."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_text(path, text.getvalue())


def link_file(source: Path, target: Path) -> None:
    """Replace `target` by a hard link to `source`, or by a copy where the file system has no links."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        with explain_full_disk(target):
            shutil.copyfile(source, partial)
    partial.replace(target)


def _force_folder(folder: Path) -> None:
    # A rename survives a power cut only when the folder itself is on the disk; some file systems cannot force that.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
