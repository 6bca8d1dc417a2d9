"""Every command that the documentation shows is one that exists, and its settings compose."""

import copy
import re
from pathlib import Path

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, flag_override
from torch.distributed.run import get_args_parser

from cli.checks import check_groups, check_types, default_config
from cli.command_line import SEARCH_PATH, config_folders, parse, rewrite
from cli.places import CONFIG_DIR, is_group
from tests.cli.test_extras import PROJECT
from tests.docs.pages import PAGES, ROOT, blocks, command_lines

TOOLS = ("cd", "export", "hf", "ln", "mkdir", "pre-commit", "sbatch", "source", "wandb")
COMMANDS = [(page.relative_to(ROOT), words) for page in PAGES for words in command_lines(page)]
_COMPOSED = {}  # by a command's name and the groups that are chosen, whatever their settings
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


@pytest.mark.slow
def test_settings_compose(mine, monkeypatch):
    """Each command's words are checked as the command does it; of a sweep, each option of a group."""
    monkeypatch.chdir(mine.parent)
    faults = []
    for words, page in sorted(SETTINGS.items()):
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
        check(name, [found[number % len(found)] for found in choices])


def check(name: str, job: list[str]) -> None:
    """Compose a command's configuration and check it; what commands choose alike is composed once."""
    folders = config_folders(job)
    chosen = [word for word in job if is_group(word.partition("=")[0], folders) or word.startswith(SEARCH_PATH)]
    key = (name, *chosen)
    if key not in _COMPOSED:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            composed = hydra.compose(name, chosen, return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            _COMPOSED[key] = (composed, default_config(folders))
    composed, defaults = _COMPOSED[key]
    cfg = copy.deepcopy(composed)
    OmegaConf.set_readonly(cfg.hydra, None)
    others = OverridesParser.create().parse_overrides([word for word in job if word not in chosen])
    ConfigLoaderImpl._apply_overrides_to_config(others, cfg)
    cfg.hydra.overrides.task = job
    HydraConfig.instance().set_config(cfg)
    check_groups(cfg, folders)
    with flag_override(cfg, "struct", False):
        del cfg["hydra"]
    check_types(cfg, defaults)


def values(word: str) -> list[str]:
    """Return a word with the first of a sweep's values, or once for each of them if they are options of a group."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return [word]
    found = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return found if is_group(override.key_or_group, [CONFIG_DIR]) else found[:1]
