"""Reads the comments in the files of conf/: on the file, on the groups that it chooses, and on each setting.

`--help` and the reference of the documentation are made from these comments. A setting's comment stands behind its
value, or in the lines above its key. At the start of a comment, `likewise` stands for the comment before it.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra import initialize_config_dir
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from cli.command_line import config_folders, typed_search_path
from cli.places import BASES, CONFIG_DIR, SOURCES, group_folders

FACTS = SOURCES / "soft" / "data" / "facts"
GLOBAL = "_global_"
_COMMENT = re.compile(r"\s*#\s?(.*)")


@dataclass(frozen=True)
class Setting:
    """One key of a file: its value as it is written there, and its comment; both may be empty."""

    value: str
    comment: str


@dataclass(frozen=True)
class ConfigFile:
    """What one file of the configuration says.

    Attributes:
        comment: the lines at its head, as one text.
        groups: what its list of defaults says of each group, by the group's name.
        settings: by dotted key, in the file's order; the keys are relative to the file's package.
        sections: comments of keys that hold further keys, by dotted key.
    """

    comment: str
    groups: dict[str, str]
    settings: dict[str, Setting]
    sections: dict[str, str]


@dataclass(frozen=True)
class Part:
    """A file that a command's configuration is composed of.

    Attributes:
        name: the file's path relative to conf/, without the ending, such as data/digits.
        owner: the group that chose the file, such as data, or "" if the command itself names it.
        prefix: what precedes the file's keys in the configuration, such as "data.", or "".
    """

    name: str
    owner: str
    prefix: str
    file: ConfigFile


@dataclass(frozen=True)
class Description:
    """A command's configuration: the files it is made of, in their order, and the chosen option of each group."""

    parts: tuple[Part, ...]
    choices: dict[str, str | None]

    def settings(self, owner: str) -> dict[str, Setting]:
        """Return the settings in the files of one owner, by their full dotted keys, with the values that win.

        A comment comes from the first file that has one, whatever its owner. Later files give another value, and their
        comments say why.
        """
        comments: dict[str, str] = {}
        for part in self.parts:
            for key, setting in part.file.settings.items():
                comments[part.prefix + key] = comments.get(part.prefix + key) or setting.comment
        return {
            part.prefix + key: Setting(setting.value, comments[part.prefix + key])
            for part in self.parts
            if part.owner == owner
            for key, setting in part.file.settings.items()
        }

    def sections(self) -> dict[str, str]:
        """Return the comments of keys that hold further keys, by their full dotted keys."""
        return {part.prefix + key: text for part in self.parts for key, text in part.file.sections.items()}


def describe(command: str, words: Sequence[str] = ()) -> Description:
    """Return what the configuration of conf/`command`.yaml is made of, with the groups that `words` choose.

    Args:
        words: choices of groups, and where else than in conf/ they are found (`typed_search_path`).
    """
    places = typed_search_path(words)
    return describe_each(command, [[word for word in words if word not in places]], places)[0]


def describe_each(command: str, choices: Iterable[Sequence[str]], places: Sequence[str] = ()) -> list[Description]:
    """Return what `describe` says of each choice of groups; files that they share are read once."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        _, repository = loader._parse_overrides_and_create_caching_repo(command, list(places))
        found = [
            create_defaults_list(
                repository, command, OverridesParser.create().parse_overrides(list(words)), True, False
            )
            for words in choices
        ]
    GlobalHydra.instance().clear()
    folders = config_folders(places)
    return [_description(defaults, folders) for defaults in found]


def _description(found: DefaultsList, folders: Sequence[Path]) -> Description:
    parents = {
        default.config_path: default.parent for default in found.defaults if default.parent != default.config_path
    }
    parts = [part for default in found.defaults if (part := _part(default, parents, folders))]
    choices = {group.partition("@")[0]: option for group, option in found.overrides.known_choices.items()}
    return Description(tuple(parts), choices)


@functools.cache
def read_config(path: Path) -> ConfigFile:
    """Return what a file of the configuration says."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = " ".join(line.lstrip("# ") for line in lines[:head] if not line.startswith("# @package"))
    root = yaml.compose(text)
    groups, settings, sections = {}, {}, {}
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "defaults":
            groups = dict(_groups(value, lines, head))
    for key, setting, is_section in _walk(root, lines, head, text):
        if is_section:
            sections[key] = setting.comment
        else:
            settings[key] = setting
    return ConfigFile(comment.strip(), groups, settings, {key: text for key, text in sections.items() if text})


def config_path(name: str, folders: Sequence[Path] = (CONFIG_DIR,)) -> Path | None:
    """Return the file of `data/digits`, for example, in one of `folders`, or None if it comes from a package."""
    group, _, option = name.rpartition("/")
    places = [FACTS] if group == "facts" else group_folders(group, folders)
    return next((path for place in places if (path := place / f"{option}.yaml").is_file()), None)


def _part(default: ResultDefault, parents: dict[str, str], folders: Sequence[Path]) -> Part | None:
    path = default.config_path and config_path(default.config_path, folders)
    if not path:
        return None
    package = default.package or ""
    prefix = "" if package in ("", GLOBAL) else f"{package}."
    return Part(default.config_path, _owner(default.config_path, parents), prefix, read_config(path))


def _owner(name: str | None, parents: dict[str, str]) -> str:
    """Return the group of the file `name` or, if it is no option of a group, of the nearest file that includes it."""
    while name:
        group = name.rpartition("/")[0]
        if group not in ("", BASES, "facts"):
            return group
        name = parents.get(name)
    return ""


def _groups(node: yaml.SequenceNode, lines: Sequence[str], head: int) -> Iterator[tuple[str, str]]:
    for entry in node.value:
        if isinstance(entry, yaml.MappingNode):
            ((key, value),) = entry.value
            name = key.value.removeprefix("override ").lstrip("/").partition("@")[0]
            yield name, _comment(key, value, lines, head)


def _walk(
    node: yaml.Node | None, lines: Sequence[str], head: int, text: str, prefix: str = ""
) -> Iterator[tuple[str, Setting, bool]]:
    """Yield (dotted key, setting, whether it holds further keys) for every key below a node but `defaults`."""
    before = ""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name, is_section = f"{prefix}{key.value}", isinstance(value, yaml.MappingNode) and not value.flow_style
        if name == "defaults":
            continue
        comment = _comment(key, value, lines, head)
        if comment.startswith("likewise"):
            comment = before + comment.removeprefix("likewise")
        before = comment
        yield name, Setting("" if is_section else _source(value, text), comment), is_section
        if is_section:
            yield from _walk(value, lines, head, text, f"{name}.")


def _source(node: yaml.Node, text: str) -> str:
    """Return a value as it is written; a list that takes several lines is put on one."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return f"[{', '.join(_source(entry, text) for entry in node.value)}]"
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def _comment(key: yaml.Node, value: yaml.Node, lines: Sequence[str], head: int) -> str:
    """Return the comment behind a value, or else that in the lines above its key."""
    one_line = value.start_mark.line == key.start_mark.line
    mark = value.end_mark if one_line else key.end_mark
    rest = lines[mark.line][mark.column :].removeprefix(":") if mark.line < len(lines) else ""
    if match := _COMMENT.fullmatch(rest):
        return match[1].strip()
    above: list[str] = []
    line = key.start_mark.line - 1
    while line >= head and lines[line].lstrip().startswith("#"):
        above.insert(0, lines[line].strip().lstrip("# "))
        line -= 1
    return " ".join(above)
