"""Keeps the examples of a generated task on the disk, so that later epochs and other runs need not draw them again."""

import hashlib
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from soft.data.tasks.generated import GeneratedTask
from soft.errors import SettingError
from soft.settings import check_text

_VERSION = 1  # raise it when a task draws other examples than before
_EMPTY = 0  # in the place of a check sum: the example has not been drawn yet


class KeptExamples:
    """The first set of a task's examples, drawn once and then read from a file that processes and runs share.

    An example is kept with a check sum of its input and label. A process that finds another sum, because the machine
    stopped or another process was writing, draws the example again. Where the file is another user's and may not
    be written, what it has is read, and other examples are drawn each time.

    Args:
        task: the task.
        folder: where the file lies. Its name comes from the task's settings, so tasks do not get in each other's way.

    Raises:
        SettingError: the folder cannot be written, or has no room for the file, or the file may not be read.
    """

    def __init__(self, task: GeneratedTask, folder: str | Path):
        self.task = task
        kind = np.uint8 if task.vocabulary <= 256 else np.int32
        shape = (task.fields, *task.grid)
        self._record = np.dtype([("sum", np.uint32), ("label", np.int32), ("tokens", kind, shape)])
        self.file = Path(folder).expanduser().absolute() / f"{_name(task)}.npy"
        self._open: np.memmap | None = None
        if not self.file.is_file():
            self._reserve()
        if not os.access(self.file, os.R_OK):
            raise SettingError(
                f"`data.cache`={self.file.parent} has a file of another user, {self.file.name}, that may not be read. "
                "Choose another folder, or null to draw the examples in every epoch."
            )

    def __len__(self) -> int:
        return len(self.task)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}  # each process opens the file itself

    def example(self, index: int, round: int = 0) -> tuple[Tensor, int]:
        """Return input and label of example `index`, as the task does; other rounds than the first are not kept."""
        if round or not 0 <= index < len(self.task):
            return self.task.example(index, round)
        if self._open is None:
            mode = "r+" if os.access(self.file, os.W_OK) else "r"
            self._open = np.memmap(self.file, self._record, mode=mode, shape=(len(self.task),))
        place = self._open[index]
        tokens, label = place["tokens"].copy(), int(place["label"])
        if place["sum"] == _EMPTY or place["sum"] != _check_sum(tokens, label):
            drawn, label = self.task.example(index)
            if self._open.mode == "r+":
                tokens = drawn.numpy().astype(tokens.dtype)
                place["tokens"], place["label"], place["sum"] = tokens, label, _check_sum(tokens, label)
            return drawn, label
        return torch.from_numpy(tokens.astype(np.int64)), label

    def _reserve(self) -> None:
        """Create the file with all of its room, because a write to a file with holes on a full disk kills a process."""
        partial = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                left = self._record.itemsize * len(self.task)
                while left:
                    left -= file.write(bytes(min(left, 2**24)))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.file)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            needed = self._record.itemsize * len(self.task) / 2**20
            raise SettingError(
                f"`data.cache`={self.file.parent} cannot take the {needed:,.0f} MiB of {len(self.task):,} examples: "
                f"{error.strerror}. Choose another folder, or null to draw them in every epoch."
            ) from error


def check_cache(folder: str) -> None:
    """Refuse a folder that cannot be made or written, before anything is drawn.

    Raises:
        SettingError: it lies below a file, or may not be written.
    """
    check_text("`data.cache`", folder)
    path = Path(folder).expanduser().absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "may not be written" if there.is_dir() else "is a file"
        raise SettingError(f"`data.cache`={folder} cannot be made, because {there} {reason}; choose another folder.")


def _name(task: GeneratedTask) -> str:
    """Return a name that two tasks share exactly when they draw the same examples."""
    settings = {key: str(value) for key, value in vars(task).items()}
    text = json.dumps([type(task).__name__, _VERSION, settings], sort_keys=True)
    return f"{type(task).__name__.lower()}-{task.split}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _check_sum(tokens: np.ndarray, label: int) -> int:
    return zlib.crc32(tokens.tobytes(), label) or 1  # 0 stands for an example that has not been drawn
