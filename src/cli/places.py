"""Where the sources and the configuration lie, and which options the groups of the configuration have."""

from collections.abc import Iterable
from pathlib import Path

import yaml

SOURCES = Path(__file__).resolve().parents[1]
REPOSITORY = SOURCES.parent
CONFIG_DIR = REPOSITORY / "conf"
STUDIES = "experiments"  # the config group that is a folder beside conf/
BASES = "base"  # the folder of conf/ that holds what other files build on; it is no group to choose from


def is_group(name: str, folders: Iterable[Path]) -> bool:
    """Return whether `name` is a config group in one of `folders`."""
    return bool(name) and any(folder.is_dir() for folder in group_folders(name, folders))


def list_groups(folders: Iterable[Path]) -> list[str]:
    """Return the names of all config groups in `folders`."""
    found = {
        str(path.relative_to(folder))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_dir() and BASES not in path.relative_to(folder).parts and any(path.glob("*.yaml"))
    }
    return sorted(found | {STUDIES})


def group_options(group: str, folders: Iterable[Path]) -> list[str]:
    """Return the names that `group=` takes."""
    return sorted({path.stem for folder in group_folders(group, folders) for path in folder.glob("*.yaml")})


def optional_groups(config: str) -> set[str]:
    """Return the groups of which the command conf/`config`.yaml chooses none by default."""
    found: set[str] = set()
    for entry in (yaml.safe_load((CONFIG_DIR / f"{config}.yaml").read_text()) or {}).get("defaults", []):
        if isinstance(entry, str) and entry.startswith(f"{BASES}/"):
            found |= optional_groups(entry)
        elif isinstance(entry, dict):
            found |= {group.lstrip("/") for group, option in entry.items() if option is None}
    return found


def group_folders(group: str, folders: Iterable[Path]) -> list[Path]:
    """Return where the options of a group can lie. Our own studies lie beside conf/, a user's in the typed folder."""
    name = group.partition("@")[0]
    return [(REPOSITORY if (folder, name) == (CONFIG_DIR, STUDIES) else folder) / name for folder in folders]
