"""Writes matplotlib's figures as PNG files, whole or not at all, and readies texts for them."""

from __future__ import annotations

import unicodedata
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


def drawable(name: str) -> str:
    r"""Return the name of a file or class as one line that matplotlib can draw.

    Control characters, and bytes of a file's name that are no text, become escapes such as `\n` and `\udce9`.
    """
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in name
    )
