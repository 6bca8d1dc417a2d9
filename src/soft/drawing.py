"""Writes matplotlib's figures as PNG files, whole or not at all, and readies texts for them."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from soft.writing import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# Fonts of symbols under other letters' numbers, and matplotlib's own font of boxes
_NO_LETTERS = ("cm", "STIX", "Last Resort")
_told: set[str] = set()  # letters that the machine has no font for


def replace_figure(path: Path, figure: Figure, dpi: float | None = None) -> None:
    """Replace `path`, whose folder is made, by the figure as a PNG file, as `soft.writing.replace_file` does.

    Letters that the figure's font lacks, such as Chinese ones, are taken from another font of this machine.

    Args:
        dpi: dots per inch; None takes the figure's own.
    """
    _add_fonts(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `_add_fonts` has said it
        replace_file(path, lambda file: figure.savefig(file, format="png", dpi="figure" if dpi is None else dpi))


def _add_fonts(figure: Figure) -> None:
    """Give the figure's texts fonts for all of their letters; log once which letters no font has."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    letters = {letter for text in texts for letter in text.get_text() if not letter.isspace()}
    if all(letter.isascii() for letter in letters):
        return
    letters = _without(letters, font_manager.findfont(font_manager.FontProperties()))
    fonts = []
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style != "normal", font.name)):
        if letters and not font.name.startswith(_NO_LETTERS):
            rest = _without(letters, font.fname)
            fonts += [font.name] if rest < letters else []
            letters = rest
    if fonts:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *fonts])
    if missing := letters - _told:
        log.warning("Boxes stand for letters that no font of this machine has, such as %s.", min(missing))
        _told.update(missing)


def _without(letters: Iterable[str], font: str) -> set[str]:
    """Return the letters that the font in a file lacks; all of them if the file is no such font."""
    from matplotlib.font_manager import get_font

    try:
        known = get_font(font).get_charmap()
    except (OSError, RuntimeError):
        return set(letters)
    return {letter for letter in letters if ord(letter) not in known}


def drawable(name: str) -> str:
    r"""Return the name of a file or class as one line that matplotlib can draw.

    Control characters, and bytes of a file's name that are no text, become escapes such as `\n` and `\udce9`.
    """
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in name
    )
