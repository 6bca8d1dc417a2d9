"""The README fits a screen, and what it and the page for contributors list is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_readme_fits_a_screen():
    assert len(README.splitlines()) <= 45
    for command in ("make demo", "make test", "make docs"):
        assert command in README


def test_the_readme_leads_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    files = [target for target in targets if not target.startswith("https:")]
    assert len(files) > 8
    assert all((ROOT / target).is_file() for target in files), files


def test_the_map_lists_every_command_and_room():
    tree = (ROOT / "docs" / "contributing.md").read_text()
    commands = {path.name for path in (ROOT / "src").glob("*.py")}
    rooms = {f"{path.parent.name}/" for path in (ROOT / "src" / "soft").glob("*/__init__.py")}
    assert commands | rooms <= set(re.findall(r"[\w.]+/?", tree))
    listed = set(re.findall(r"^  (\w+\.py)", tree, re.MULTILINE))
    assert listed <= commands | {path.name for path in (ROOT / "src" / "soft").glob("*.py")}
