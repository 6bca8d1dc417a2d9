"""What `--help` prints: a command's groups with their options, and its settings with their comments in conf/."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from cli.checks import has_no_effect
from cli.command_line import config_folders, typed_search_path
from cli.descriptions import Description, Setting, config_path, describe, read_config
from cli.places import CONFIG_DIR, group_options, is_group

WIDTHS = (80, 120)  # columns, smallest and largest


def help_text(command: str, summary: str, words: Sequence[str] = ()) -> str:
    """Return the help of conf/`command`.yaml.

    Args:
        command: the configuration's name.
        summary: what the command does, in a line.
        words: settings typed beside `--help`. The groups among them are explained in place of the command's settings.
    """
    folders = config_folders(words)
    typed = [word for word in words if is_group(word.partition("=")[0], folders)]
    width = min(max(shutil.get_terminal_size((WIDTHS[1], 50)).columns, WIDTHS[0]), WIDTHS[1])
    found = describe(command, [*typed, *typed_search_path(words)])
    lines = [summary, "", f"  {read_config(CONFIG_DIR / f'{command}.yaml').comment}", ""]
    if typed:
        for word in typed:
            lines += [*_group_lines(word.partition("=")[0], found, width, folders), ""]
        return "\n".join(lines[:-1])
    groups = command_groups(command, found)
    if groups:
        lines += [
            "Groups, GROUP=OPTION (with the default in brackets):",
            *_option_lines(groups, found, width, folders),
            "",
        ]
    settings = {
        key: setting
        for key, setting in sorted(found.settings("").items(), key=lambda entry: entry[0].startswith("process."))
        if not key.startswith(("hydra.", "suggested.")) and not has_no_effect(command, key)
    }
    lines += ["Settings, KEY=VALUE, with their defaults:", *_setting_lines(settings, width)]
    if groups:
        example = "data=digits" if "data" in groups else "model=soft_tiny"
        lines += ["", f"The options of a group, and its settings: python src/{command}.py {example} --help"]
    lines += [f"All settings with their values, without a start: python src/{command}.py --cfg job"]
    return "\n".join(lines)


def command_groups(command: str, found: Description) -> dict[str, str]:
    """Return what each group that the command uses is for, by the group's name, in the order of `--help`."""
    own = read_config(CONFIG_DIR / f"{command}.yaml").groups
    purposes = {group: text for part in found.parts for group, text in part.file.groups.items() if text}
    purposes = read_config(CONFIG_DIR / "train.yaml").groups | purposes
    known = [group for group in found.choices if is_group(group, [CONFIG_DIR]) and not group.startswith("hydra/")]
    known = [group for group in known if not has_no_effect(command, group)]
    order = list(dict.fromkeys(["model", "model/attention", *purposes, *own, *known]))
    known.sort(key=order.index)
    return {group: own.get(group) or purposes.get(group, "") for group in known}


def option_comment(group: str, option: str, folders: Sequence[Path] = (CONFIG_DIR,)) -> str:
    """Return the comment at the head of an option's file, or else the first comment on a setting in it."""
    path = config_path(f"{group}/{option}", folders)
    if path is None:
        return ""
    file = read_config(path)
    comment = file.comment or next((setting.comment for setting in file.settings.values() if setting.comment), "")
    return comment


def _option_lines(groups: dict[str, str], found: Description, width: int, folders: Sequence[Path]) -> Iterator[str]:
    column = max(map(len, groups)) + 4
    for group, purpose in groups.items():
        options = [f"[{name}]" if name == found.choices[group] else name for name in group_options(group, folders)]
        yield _wrapped(f"  {group}", purpose, column, width) if purpose else f"  {group}"
        yield textwrap.fill(" ".join(options), width, initial_indent=" " * column, subsequent_indent=" " * column)


def _group_lines(group: str, found: Description, width: int, folders: Sequence[Path]) -> Iterator[str]:
    yield f"Options of {group}, with the chosen one in brackets:"
    options = group_options(group, folders)
    column = max(map(len, options)) + 6
    for name in options:
        label = f"[{name}]" if name == found.choices.get(group) else f" {name}"
        yield _wrapped(f"  {label}", option_comment(group, name, folders), column, width)
    settings = found.settings(group)
    if settings:
        yield ""
        yield f"Settings of {group}={found.choices.get(group)}:"
        yield from _setting_lines(settings, width)


def _setting_lines(settings: dict[str, Setting], width: int) -> Iterator[str]:
    shown = {
        f"{key}={'...' if setting.value == '???' else setting.value}": setting.comment
        for key, setting in settings.items()
        if not _is_fixed(key)
    }
    column = min(max(map(len, shown), default=0) + 4, 46)
    for label, comment in shown.items():
        yield _wrapped(f"  {label}", comment, column, width)


def _is_fixed(key: str) -> bool:
    """Return whether a key names what is built rather than a choice."""
    return key.rpartition(".")[2] in ("_target_", "_convert_")


def _wrapped(label: str, text: str, column: int, width: int) -> str:
    """Return a label followed by its text, whose lines begin at `column` except beside a label that is too long."""
    if not text:
        return label
    first = f"{label:<{column}}" if len(label) < column else f"{label}  "
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * column, break_on_hyphens=False)
