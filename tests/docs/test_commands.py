"""Every command that the documentation shows is one that exists, and its settings compose."""

import re
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import flag_override
from torch.distributed.run import get_args_parser

from cli.checks import check_groups, check_types, default_config
from cli.command_line import config_folders, parse, rewrite
from cli.places import CONFIG_DIR, is_group
from tests.cli.test_extras import PROJECT
from tests.docs.pages import PAGES, ROOT, blocks, command_lines

TOOLS = ("cd", "export", "hf", "ln", "mkdir", "pre-commit", "sbatch", "source", "wandb")
COMMANDS = [(page.relative_to(ROOT), words) for page in PAGES for words in command_lines(page)]
_DEFAULTS = {}  # by a command's name and the groups that are chosen, whatever their settings
SETTINGS = {}  # by command and words, with the first page that shows them
for _page, _words in COMMANDS:
    if _words[:1] == ["torchrun"]:
        _words = ["python", *get_args_parser().parse_args(_words[1:]).training_script_args]
        _words.insert(1, "src/train.py")
    if _words[0] == "python" and _words[1].startswith("src/"):
        SETTINGS.setdefault(tuple(_words[1:]), _page)


def test_there_are_commands():
    assert len(SETTINGS) > 70
    shown = {words[0] for words in SETTINGS}
    assert shown == {f"src/{path.name}" for path in (ROOT / "src").glob("*.py")}


def test_what_is_no_command_of_ours_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page, words in COMMANDS:
        match words:
            case ["make", target]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), (page, words)
            case ["pip", "install", *rest]:
                extras = [extra for word in rest for extra in re.findall(r"\[(.*)\]", word)]
                assert set(",".join(extras).split(",")) <= {"", *PROJECT["optional-dependencies"]}, (page, words)
            case ["python", "-m", "pytest", *paths]:
                assert all((ROOT / path).exists() for path in paths), (page, words)
            case ["python", "-m", module]:
                assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), (page, words)
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), (page, words)
            case ["torchrun", *_]:
                assert "src/train.py" in words, (page, words)
            case [tool, *_]:
                assert tool in TOOLS, (page, words)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Return a folder with the settings that the pages show as files of the reader's own."""
    folder = tmp_path_factory.mktemp("pages") / "mine"
    for page in PAGES:
        for block in blocks(page, "yaml"):
            path = folder / re.sub(r"^(mine|conf)/", "", block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("number", range(3))
def test_settings_compose(number, mine, monkeypatch):
    """Each command's words are checked as the command does it; of a sweep, each option of a group."""
    monkeypatch.chdir(mine.parent)
    faults = []
    for words, page in sorted(SETTINGS.items())[number * len(SETTINGS) // 3 : (number + 1) * len(SETTINGS) // 3]:
        try:
            compose(words, mine)
        except Exception as error:
            faults.append(f"{page}: {' '.join(words)}: {error}"[:300])
    assert not faults, "\n".join(faults)


def compose(words: tuple[str, ...], mine: Path) -> None:
    script, *typed = words
    name = Path(script).stem
    if name == "sbatch":
        name, typed = "train", [word for word in typed if word.isupper() is False and not word.startswith("--")]
    overrides = parse(rewrite([*typed, f"--config-dir={mine}"], name)).overrides
    choices = [values(word) for word in overrides]
    for number in range(max(map(len, choices), default=0)):
        job = [found[number % len(found)] for found in choices]
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = hydra.compose(name, job, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            folders = config_folders(job)
            check_groups(cfg, folders)
            groups = (name, *(word for word in job if is_group(word.partition("=")[0], folders)))
            if groups not in _DEFAULTS:
                _DEFAULTS[groups] = default_config(folders)
            with flag_override(cfg, "struct", False):
                del cfg["hydra"]
            check_types(cfg, _DEFAULTS[groups])


def values(word: str) -> list[str]:
    """Return a word with the first of a sweep's values, or once for each of them if they are options of a group."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return [word]
    found = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return found if is_group(override.key_or_group, [CONFIG_DIR]) else found[:1]
