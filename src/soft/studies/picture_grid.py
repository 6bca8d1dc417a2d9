"""Pictures side by side, each with its caption, such as a contact sheet or a sheet of mistakes."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from soft.drawing import drawable

_COLUMNS = 6
_LONGEST = 28  # characters of a caption's line, so that it stays below its own picture
_SIDE = 1.9  # inches of a picture's width


def draw_picture_grid(pictures: Sequence[np.ndarray], captions: Sequence[Sequence[str]], title: str = "") -> Figure:
    """Draw pictures in up to six columns.

    Args:
        pictures: uint8 (H, W, 3), all of one size.
        captions: for each picture the lines below it; a long line loses its middle.
        title: of the whole sheet.
    """
    columns = min(_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    cell = _SIDE * height / width + 0.16 * max(map(len, captions)) + 0.1
    size = (max(_SIDE * columns, 2 * _SIDE), cell * rows + (0.4 if title else 0))
    sheet = Figure(figsize=size, dpi=150, layout="constrained")
    panels = sheet.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, picture, caption in zip(panels, pictures, captions, strict=False):
        panel.imshow(picture, interpolation="nearest")
        # Names are shown as they are: a dollar sign in one begins no formula.
        place = {"transform": panel.transAxes, "ha": "center", "va": "top", "parse_math": False}
        panel.text(0.5, -0.03, "\n".join(map(_shortened, caption)), fontsize=8, **place)
    if title:
        sheet.suptitle(title, fontsize="medium", parse_math=False)
    return sheet


def _shortened(line: str) -> str:
    line = drawable(line)
    if len(line) <= _LONGEST:
        return line
    half = (_LONGEST - 1) // 2
    return f"{line[:half]}…{line[-half:]}"
