"""The pages of the documentation that list every setting, made of the comments in conf/."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from cli.checks import has_no_effect
from cli.descriptions import Description, Setting, describe, describe_each, read_config
from cli.help import command_groups, option_comment
from cli.places import CONFIG_DIR, SOURCES, STUDIES, group_options

COMMANDS = sorted(path.stem for path in CONFIG_DIR.glob("*.yaml") if (SOURCES / path.name).with_suffix(".py").is_file())
# Groups of Hydra's own that have an option in conf/.
LAUNCHER = "hydra/launcher"
# Words of Hydra's, which mean the same everywhere.
KEYWORDS = {
    "_target_": "the class or function that is built with the settings beside it; no choice of a run",
    "_convert_": "how Hydra hands lists over, as plain ones; no choice of a run",
}


@dataclass
class Page:
    """A page in Markdown.

    Attributes:
        lines: of its text.
        covered: (file, key) pairs of conf/ that it lists, with keys relative to the file's package.
        uncommented: full keys of settings without a comment.
    """

    lines: list[str] = field(default_factory=list)
    covered: set[tuple[str, str]] = field(default_factory=set)
    uncommented: set[str] = field(default_factory=set)


def build_pages() -> dict[str, Page]:
    """Return the pages by their places in the site: one for each command, and one for each group."""
    found = {command: describe(command) for command in COMMANDS}
    readers: dict[str, list[str]] = {}
    purposes: dict[str, str] = {LAUNCHER: "where the jobs of a sweep run"}
    for command, description in found.items():
        for group, purpose in command_groups(command, description).items():
            readers.setdefault(group, []).append(command)
            purposes.setdefault(group, purpose)
    readers[LAUNCHER] = ["train"]
    order = [*command_groups("train", found["train"]), "benchmark", LAUNCHER]
    pages = {command_place(command): _command_page(command, found[command]) for command in COMMANDS}
    options = {group: group_options(group, [CONFIG_DIR]) for group in sorted(readers, key=order.index)}
    for reader in ("train", "benchmark"):
        groups = [group for group in options if reader == ("train" if "train" in readers[group] else "benchmark")]
        choices = [(group, option) for group in groups for option in options[group]]
        described = dict(zip(choices, describe_each(reader, [[f"{g}={o}"] for g, o in choices]), strict=True))
        for group in groups:
            by_option = {option: described[group, option] for option in options[group]}
            pages[group_place(group)] = _group_page(
                group, purposes[group], readers[group], by_option, found[reader].choices
            )
    return pages


def command_place(command: str) -> str:
    """Return the place of a command's page in the site."""
    return f"settings/{command}.md"


def group_place(group: str) -> str:
    """Return the place of a group's page in the site."""
    return f"settings/group_{group.replace('/', '_')}.md"


def _command_page(command: str, found: Description) -> Page:
    page = Page([f"# {command}.py", "", f"{_summary(command)}", ""])
    page.lines += ["```", read_config(CONFIG_DIR / f"{command}.yaml").comment, "```", ""]
    groups = command_groups(command, found)
    if groups:
        page.lines += ["## Groups", "", "| group | default | what it chooses |", "|---|---|---|"]
        for group, purpose in groups.items():
            default = found.choices[group]
            place = group_place(group).removeprefix("settings/")
            page.lines.append(f"| [`{group}`]({place}) | {f'`{default}`' if default else 'none'} | {_cell(purpose)} |")
        page.lines.append("")
    settings = {key: value for key, value in found.settings("").items() if not has_no_effect(command, key)}
    own = {key: value for key, value in settings.items() if not key.startswith("hydra.")}
    sections = found.sections()
    if own:
        page.lines += ["## Settings", "", *_table(own, sections, page)]
    hydra = {key: value for key, value in settings.items() if key.startswith("hydra.")}
    if hydra:
        page.lines += ["## Settings of Hydra", "", "What this project sets of Hydra's own settings.", ""]
        page.lines += _table(hydra, sections, page)
    for part in found.parts:
        if part.owner == "":
            page.covered |= {(part.name, key) for key in part.file.settings}
    return page


def _table(settings: dict[str, Setting], sections: dict[str, str], page: Page) -> list[str]:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    named: set[str] = set()
    for key, setting in settings.items():
        for section in _above(key):
            if section in sections and section not in named:
                lines.append(f"| **`{section}`** | | {_cell(sections[section])} |")
            named.add(section)
        lines.append(f"| `{key}` | {_value(setting.value)} | {_cell(_meaning(key, setting.comment, page))} |")
    return [*lines, ""]


def _group_page(
    group: str, purpose: str, readers: list[str], found: dict[str, Description], usual: dict[str, str | None]
) -> Page:
    options = list(found)
    default = usual.get(group) if usual.get(group) in options else None
    page = Page([f"# {group}", "", f"{_sentence(purpose)} Read by {_links(readers)}.", "", "## Options", ""])
    brings = {option: _brought(group, description, usual) for option, description in found.items()}
    page.lines += (
        ["| option | what it is | what it brings |", "|---|---|---|"]
        if any(brings.values())
        else ["| option | what it is |", "|---|---|"]
    )
    for option in options:
        label = f"`{option}` (default)" if option == default else f"`{option}`"
        cells = [label, _cell(option_comment(group, option)), *([brings[option]] if any(brings.values()) else [])]
        page.lines.append(f"| {' | '.join(cells)} |")
    page.lines.append("")
    rows: dict[str, dict[str, Setting]] = {}
    for option in sorted(options, key=lambda option: option != default):
        for key, setting in _own_settings(group, found[option]).items():
            rows.setdefault(key, {})[option] = setting
        page.covered |= {(p.name, key) for p in found[option].parts if p.owner == group for key in p.file.settings}
    if rows:
        page.lines += ["## Settings", "", "| setting | value | meaning |", "|---|---|---|"]
    sections = {key: text for description in found.values() for key, text in description.sections().items()}
    named: set[str] = set()
    for key, by_option in rows.items():
        for section in _above(key):
            if section in sections and section not in named:
                page.lines.append(f"| **`{section}`** | | {_cell(sections[section])} |")
            named.add(section)
        comments = _by_content({option: s.comment for option, s in by_option.items()})
        meanings = [(_cell(_meaning(key, text, page)), names) for text, names in comments.items()]
        texts = [meanings[0][0], *(f"in {', '.join(map(_cell, names))}: {text}" for text, names in meanings[1:])]
        page.lines.append(f"| `{key}` | {_values(by_option, options)} | {'<br>'.join(texts)} |")
    page.lines.append("")
    return page


def _own_settings(group: str, found: Description) -> dict[str, Setting]:
    """Return the settings of an option, but for what a study varies, which its file says at length."""
    settings = found.settings(group)
    if group != STUDIES:
        return settings
    shared = read_config(CONFIG_DIR / "study.yaml").settings
    return {key: Setting(shared[key].value, setting.comment) for key, setting in settings.items() if key in shared}


def _brought(group: str, found: Description, usual: dict[str, str | None]) -> str:
    """Return the choices of other groups that an option brings with it."""
    changed = {
        name: option
        for name, option in found.choices.items()
        if name != group and option != usual.get(name) and not name.startswith("hydra/")
    }
    return ", ".join(f"`{name}={option}`" for name, option in sorted(changed.items()))


def _values(by_option: dict[str, Setting], options: list[str]) -> str:
    values = _by_content({option: setting.value for option, setting in by_option.items() if setting.value != option})
    if len(values) < len(by_option) - 1 and len(values) + 1 < sum(s.value == o for o, s in by_option.items()):
        others = [f"{_value(value)} in {', '.join(map(_cell, names))}" for value, names in values.items()]
        return "<br>".join(["the option's own name", *others])
    values = _by_content({option: setting.value for option, setting in by_option.items()})
    if len(values) == 1 and len(by_option) == len(options):
        return _value(next(iter(values)))
    return "<br>".join(f"{_value(value)} in {', '.join(map(_cell, names))}" for value, names in values.items())


def _by_content(texts: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for option, text in texts.items():
        found.setdefault(text, []).append(option)
    return found


def _meaning(key: str, comment: str, page: Page) -> str:
    text = comment or KEYWORDS.get(key.rpartition(".")[2], "")
    if not text:
        page.uncommented.add(key)
    return text


def _above(key: str) -> Iterator[str]:
    """Yield the keys that hold this one, from the outermost."""
    names = key.split(".")
    for length in range(1, len(names)):
        yield ".".join(names[:length])


def _summary(command: str) -> str:
    """Return the first sentence of a command's module, up to the colon before its usage."""
    text = ast.get_docstring(ast.parse((SOURCES / f"{command}.py").read_text(encoding="utf-8")))
    return _sentence(text.partition(": `")[0])


def _links(commands: list[str]) -> str:
    return ", ".join(f"[{name}.py]({command_place(name).removeprefix('settings/')})" for name in commands)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _value(text: str) -> str:
    return "has to be given" if text == "???" else f"`{text.replace('|', chr(92) + '|')}`"


def _cell(text: str) -> str:
    """Return a text for a cell of a table: without what Markdown would take for markup."""
    for sign in ("|", "*", "_", "<", "[", "$"):
        text = text.replace(sign, f"\\{sign}")
    return text
