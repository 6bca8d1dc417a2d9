"""What the README and the pages of the documentation show: their commands, and blocks of code and settings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "PERFORMANCE.md",
    ROOT / "experiments" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(python src/[^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title or "", and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, of one language where one is named."""
    found = []
    for head, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', head)
        found.append(Block(head.split()[0] if head.split() else "", title[1] if title else "", text))
    return [block for block in found if language is None or block.language == language]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command that a page shows, without comments, variables, and what follows `>` or `|`."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "") for line in block.text.replace("\\\n", " ").splitlines()]
    lines += [" ".join(line.split()) for line in _INLINE.findall(_BLOCK.sub("", text))]
    for line in lines:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            end = next((place for place, word in enumerate(words) if word in (">", "|", "...")), len(words))
            words = words[:end]
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
