"""Reads the words of a command, and rewrites them so that Hydra takes what the user meant.

Hydra parses every value with a grammar of its own, in which `=`, brackets, quotes, commas and many letters mean
something. A path, or a text that the grammar does not know, is put into quotes here, so that it is taken as it stands.
"""

import re
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from cli.places import CONFIG_DIR, REPOSITORY, group_options, is_group, optional_groups

# Settings whose value is a path, or a text with brackets such as `train[:90%]`: they are taken as they stand.
VERBATIM = frozenset(
    {
        "checkpoint",
        "data.cache",
        "data.path",
        "data.root",
        "data.split",
        "data.train_shards",
        "data.train_split",
        "data.val_shards",
        "data.val_split",
        "evaluation",
        "hydra.run.dir",
        "hydra.sweep.dir",
        "image",
        "images",
        "loader.root",
        "maps",
        "out",
        "output_dir",
        "resume",
        "run",
        "sweep",
    }
)
# Verbatim settings that also take several paths, as `[A,B]`.
LISTS = frozenset({"checkpoint", "images"})
# Verbatim settings with one value for a whole sweep, so that a comma in them does not separate values.
ONE_OF_A_SWEEP = frozenset({"hydra.run.dir", "hydra.sweep.dir", "out", "output_dir", "run", "sweep"})
# One part of `[A,"B, C"]`: a quoted text, or everything up to the next comma.
_PART = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^,]*?)\s*(?:,|$)""")
SEARCH_PATH = "hydra.searchpath"


class ConfigError(Exception):
    """A setting that does not fit the configuration; the message is for the user."""


def parse(words: Sequence[str]) -> Namespace:
    """Return Hydra's view of a command's words.

    Raises:
        ConfigError: an option that Hydra does not know, or one without its value.
    """
    return _parser().parse_intermixed_args(list(words))


def rewrite(words: Sequence[str], config_name: str) -> list[str]:
    """Return the words of a command as Hydra has to be given them.

    - `--optimizer.lr=0.01`, which a sweep agent of W&B types, becomes `optimizer.lr=0.01`.
    - Values of `VERBATIM` settings, and values that Hydra's grammar refuses, are put into quotes.
    - `--config-dir` becomes an entry of `hydra.searchpath`, which the jobs of a sweep are given too. The repository's
      own entry stays in that list.

    Raises:
        ConfigError: a word that is neither an option nor a setting, or a config folder that does not exist.
    """
    words = [_without_hyphens(word) for word in words]
    args = parse(words)
    if args.config_name is not None and not (CONFIG_DIR / f"{args.config_name.removesuffix('.yaml')}.yaml").is_file():
        raise ConfigError(
            f"--config-name={args.config_name} is no configuration of this project. Settings of your own are a file of "
            "experiments/ in the folder that --config-dir names, and experiments=NAME chooses it."
        )
    several = args.multirun
    overrides, folders = [], []
    for place, word in enumerate(args.overrides):
        key, equals, value = word.partition("=")
        if not equals and not word.startswith("~"):
            raise ConfigError(_explain_loose_word(word, args.overrides[:place]))
        if key == SEARCH_PATH:
            folders += _read_search_path(word)
        elif value != "null" or not is_group(key, [CONFIG_DIR]):
            overrides.append(_quote_value(key, value, several) if equals else word)
        elif key not in optional_groups(config_name):  # null is the default of optional groups already
            options = ", ".join(group_options(key, [CONFIG_DIR]))
            raise ConfigError(f"{config_name} needs {key}, and {word} leaves it out; it is one of {options}.")
    if args.config_dir is not None:
        folder = Path(args.config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir={args.config_dir} is not a folder.")
        folders.append(f"file://{folder}")
    if folders:
        overrides.append(search_path_word(folders))
    return [*_options(words), *overrides]


def search_path_word(folders: Sequence[str]) -> str:
    """Return the override that makes Hydra look for configurations in `folders` too, after this repository's."""
    listed = dict.fromkeys([f"file://{REPOSITORY}", *folders])
    return f"{SEARCH_PATH}=[{','.join(map(quote, listed))}]"


def search_path_as_typed(words: Sequence[str]) -> list[str]:
    """Return the words of a rewritten command with `--config-dir` for a single folder of the user's."""
    folders = config_folders(words)[1:]
    others = [word for word in words if word not in typed_search_path(words)]
    return [f"--config-dir={folders[0]}", *others] if len(folders) == 1 else list(words)


def typed_search_path(words: Iterable[str]) -> list[str]:
    """Return the words of a rewritten command that say where configurations are found."""
    return [word for word in words if word.startswith(f"{SEARCH_PATH}=")]


def config_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders in which a rewritten command finds config groups, this project's first."""
    typed = [entry for word in typed_search_path(words) for entry in _read_search_path(word)]
    folders = [Path(entry.removeprefix("file://")) for entry in typed if entry.startswith("file://")]
    return [CONFIG_DIR, *(folder for folder in folders if folder != REPOSITORY)]


def key_of(override: str) -> str:
    """Return the key of an override, such as `model.name` for `+model.name=soft_tiny`."""
    return override.partition("=")[0].lstrip("+~")


def quote(value: object) -> str:
    """Return `value` as a quoted text of Hydra's grammar, in which it means itself."""
    return QuotedString(str(value), Quote.single).with_quotes()


def unquote(word: str) -> str:
    """Return an override as a user would type it: the value of a `VERBATIM` setting needs no quotes of the grammar."""
    key, _, value = word.partition("=")
    if key not in VERBATIM or not (len(value) > 1 and value[0] == value[-1] == "'"):
        return word
    return f"{key}={value[1:-1]}".replace("\\'", "'")


def as_typed(key: str, value: object) -> str:
    """Return `key=value` as a word that can be pasted into a shell."""
    return shlex.quote(f"{key}={value}")


class _Parser(ArgumentParser):
    def error(self, message: str) -> None:
        raise ConfigError(f"{message[0].upper()}{message[1:]}. Settings are typed as key=value; --help lists them.")


def _parser() -> _Parser:
    # A copy of Hydra's own parser, whose errors print its usage and end the process.
    return _Parser(add_help=False, allow_abbrev=False, parents=[get_args_parser()])


def _without_hyphens(word: str) -> str:
    """Return `key=value` for `--key=value`, unless that is an option of Hydra's."""
    option, equals, _ = word.partition("=")
    if not (equals and option.startswith("--")) or option in _parser()._option_string_actions:
        return word
    return word.removeprefix("--")


def _options(words: Sequence[str]) -> list[str]:
    """Return the words that are options of Hydra's, with their values, but for the config folder."""
    parser = _parser()
    args, kept = parser.parse_intermixed_args(list(words)), []
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest in ("overrides", "config_dir") or value == action.default:
            continue
        option = next(name for name in action.option_strings if name.startswith("--"))
        kept += [option] if value is True else [f"{option}={value}"]
    return kept


def _explain_loose_word(word: str, before: Sequence[str]) -> str:
    if before and "=" in before[-1]:
        whole = shlex.quote(f"{before[-1]} {word}")
        return (
            f"{word!r} is not of the form key=value. If it belongs to the value before it, put quotes around: {whole}"
        )
    return f"{word!r} is not of the form key=value; --help lists the settings."


def _quote_value(key: str, value: str, several: bool) -> str:
    name = key.lstrip("+")
    if name not in VERBATIM:
        return f"{key}={value}" if _is_grammatical(f"{key}={value}") else f"{key}={quote(value)}"
    if value in ("null", "???") or (name == "resume" and value == "auto"):
        return f"{key}={value}"
    if _bare(value) != value and not Path(value).exists():
        value = _bare(value)
    elif not Path(value).expanduser().exists():
        if name in LISTS and value.startswith("[") and value.endswith("]"):
            paths = [_expand(_bare(part)) for part in _PART.findall(value[1:-1]) if part]
            return f"{key}=[{','.join(map(quote, paths))}]"
        if several and "," in value and name not in ONE_OF_A_SWEEP:
            return f"{key}={','.join(quote(_expand(part)) for part in value.split(','))}"
    return f"{key}={quote(_expand(value))}"


def _bare(text: str) -> str:
    """Return a quoted text without its quotes, and any other as it is."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if quoted else text


def _expand(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:  # there is no such user
        return path


def _is_grammatical(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def _read_search_path(word: str) -> list[str]:
    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException:
        value = None
    if not isinstance(value, list):
        raise ConfigError(f"{word} has to be a list of folders, such as {SEARCH_PATH}=[file:///my/conf].")
    return [str(getattr(entry, "text", entry)) for entry in value]
