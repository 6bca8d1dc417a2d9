"""Figures in files, with letters of any script."""

import logging
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from soft import drawing
from soft.drawing import replace_figure

LETTER = "\u2fff"  # a letter that no usual font has


@pytest.fixture
def font(tmp_path, monkeypatch):
    """Return a font with LETTER as a black square, which matplotlib forgets after the test."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(LETTER): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")


def darkness(text, folder):
    """Return the share of black pixels in a picture of the text alone."""
    figure = Figure(figsize=(1, 1), dpi=100)
    figure.text(0.1, 0.1, text, fontsize=40)
    replace_figure(folder / "text.png", figure)
    return float((np.asarray(Image.open(folder / "text.png").convert("L")) < 64).mean())


def test_letters_come_from_any_font_of_the_machine(font, tmp_path, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert darkness(LETTER, tmp_path) > 0.2
    assert not caplog.records


def test_letters_without_a_font_are_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(drawing, "_told", set())
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for _ in range(2):
            assert darkness(LETTER, tmp_path) < 0.2
    assert [record.getMessage() for record in caplog.records] == [
        f"Boxes stand for letters that no font of this machine has, such as {LETTER}."
    ]


def test_names_on_an_axis_too(font, tmp_path):
    figure = Figure()
    figure.subplots().set_xticks([0, 1], [LETTER, "cat"])
    with warnings.catch_warnings(record=True) as said:
        replace_figure(tmp_path / "axis.png", figure)
        figure.draw_without_rendering()
    assert not said
