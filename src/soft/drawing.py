"""Writes matplotlib's figures as PNG files, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from soft.writing import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def replace_figure(path: Path, figure: Figure, dpi: float | None = None) -> None:
    """Replace `path`, whose folder is made, by the figure as a PNG file, as `soft.writing.replace_file` does.

    Args:
        dpi: dots per inch; None takes the figure's own.
    """
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi="figure" if dpi is None else dpi))
