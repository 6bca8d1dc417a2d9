"""What a page consists of, besides the tables and figures of a study: facts, pictures, texts, and sections of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from soft.analysis.class_tables import Confusion
from soft.studies.figures import Figure
from soft.studies.heat_map import HeatMap
from soft.studies.tables import Table


@dataclass(frozen=True)
class Facts:
    """Names with a text each; `code` stands in backquotes."""

    texts: Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """A PNG file, which becomes a part of the page, with the text that stands for it where it cannot be seen."""

    path: Path
    description: str


@dataclass(frozen=True)
class Listing:
    """A text whose lines stay as they are, behind its title until it is opened."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        paragraphs: texts above the blocks; `code` stands in backquotes.
        blocks: in their order; figures that follow each other stand in two columns where there is room.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


Block: TypeAlias = Table | Figure | HeatMap | Confusion | Facts | Picture | Listing | Section
