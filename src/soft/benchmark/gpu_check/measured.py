"""One figure of the check, and what its parts are given."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Measured:
    """A figure, with the limit that it should keep, if there is one.

    Attributes:
        what: what was measured.
        value: a number, or words.
        unit: of the number.
        minimum, maximum: limits that the number should keep.
        note: what else a reader has to know.
    """

    what: str
    value: float | str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the number keeps its limits; None without limits."""
        if self.minimum is None and self.maximum is None:
            return None
        low = self.minimum is None or self.value >= self.minimum
        return bool(low and (self.maximum is None or self.value <= self.maximum))

    def as_row(self, part: str) -> dict[str, object]:
        """Return the figure as a line of the check's table."""
        limit = f">= {self.minimum:g}" if self.minimum is not None else ""
        limit += f"<= {self.maximum:g}" if self.maximum is not None else ""
        values = {key: value for key, value in asdict(self).items() if key not in ("minimum", "maximum")}
        met = {None: "", True: "yes", False: "no"}[self.met]
        return {"part": part, **values, "limit": limit, "met": met}


@dataclass(frozen=True)
class Check:
    """What a part of the check is given.

    Attributes:
        device: where it measures.
        small: use tiny sizes, to try the check itself.
        source: folder that holds src/ and tests/.
        folder: for files that a part writes.
    """

    device: torch.device
    small: bool
    source: Path
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Return whether the device is a CUDA GPU."""
        return self.device.type == "cuda"


Part = Callable[[Check], Iterator[Measured]]
