"""What mkdocs calls while it builds the site: pages of settings are made, and pages from outside of docs/ are added.

Links are written for readers of the repository; here they are turned into those of the site.
"""

import os
import posixpath
import re
import sys
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
# Places in the site of files that lie outside of docs/. The results of studies keep their places.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "PERFORMANCE.md": "performance.md",
    "examples/quickstart.ipynb": "quickstart.ipynb",
    "experiments/README.md": "experiments/README.md",
}
RESULTS = "experiments/results"
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")


@cache
def settings_pages() -> dict[str, str]:
    """Return the text of each page of settings by its place in the site."""
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]
    try:
        from docs.settings_reference import build_pages

        return {place: "\n".join(page.lines) for place, page in build_pages().items()}
    finally:
        del sys.path[:2]


def outside_files() -> dict[str, str]:
    """Return the places in the site of files outside of docs/, by their places in the repository."""
    results = sorted((REPOSITORY / RESULTS).rglob("*"))
    kept = [path.relative_to(REPOSITORY).as_posix() for path in results if path.suffix in (".md", ".png", ".csv")]
    return ELSEWHERE | {path: path for path in kept}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of settings to the navigation, behind the one that introduces them."""
    (reference,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    place = next(number for number, entry in enumerate(reference) if "settings.md" in entry.values()) + 1
    pages = list(settings_pages())
    commands = [page for page in pages if "/group_" not in page]
    groups = [page for page in pages if "/group_" in page]
    reference[place:place] = [{"Settings by command": commands}, {"Settings by group": groups}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of settings, and the files from outside of docs/."""
    for place, text in settings_pages().items():
        files.append(File.generated(config, place, content=text))
    for path, place in outside_files().items():
        files.append(File.generated(config, place, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    sources = {place: path for path, place in outside_files().items()}
    place = page.file.src_uri
    folder = posixpath.dirname(sources.get(place, f"docs/{place}"))

    def site_link(match: re.Match[str]) -> str:
        start, target, anchor, end = match.groups()
        if ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        there = outside_files().get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return match[0]
        return f"{start}{os.path.relpath(there, posixpath.dirname(place) or '.')}{anchor or ''}{end}"

    return _LINK.sub(site_link, markdown)
