"""Finds the folder of a run that a command goes on with, before Hydra makes a new one."""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.command_line import (
    SEARCH_PATH,
    config_folders,
    key_of,
    parse,
    quote,
    search_path_as_typed,
    typed_search_path,
    unquote,
)
from cli.places import CONFIG_DIR, is_group
from cli.ranks import rank
from cli.secrets import MASK, mask_text, masked


def find_folder(config_name: str) -> None:
    """Add to the command line of a command that goes on with a run `hydra.run.dir=...` and the words of that run.

    It goes on if `resume` names a run, if `resume=auto` finds one, or if SLURM has queued the job again. The words with
    which a named run was started hold again, unless others are typed. Nothing is added if a folder is named already, as
    for the jobs of a sweep; `resume=auto` then goes on with what is in it.
    """
    args = parse(sys.argv[1:])
    named = any(word.startswith(("hydra.run.dir=", "output_dir=")) for word in args.overrides)
    resume = next((word.partition("=")[2] for word in reversed(args.overrides) if word.startswith("resume=")), "null")
    requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if named or args.multirun or args.cfg or args.help or args.hydra_help or args.info:
        return
    of_a_run = resume not in ("auto", "null")
    if not (of_a_run or requeued or resume == "auto"):
        return
    name = args.config_name or config_name
    try:
        words = _words_of_run(name, args.overrides) if of_a_run else []
        cfg = compose(name, [*words, *args.overrides])
        folder, former = _folder_of(cfg, resume), []
        if folder is None and (former := _former_start(cfg, [*words, *args.overrides])):
            folder = _folder_of(compose(name, [*words, *args.overrides, *former]), resume)
    except (HydraException, OmegaConfBaseException):  # Hydra will meet the same error and report it
        return
    if folder is None:
        words, former = [word for word in words if key_of(word) != "checkpoint"], []  # its weights are in the run's
    else:
        former.append(f"hydra.run.dir={quote(folder)}")
    # A study's word makes a sweep of a command, and each of its jobs is told not to be one.
    single = ["hydra.mode=RUN"] if any(key_of(word) == "experiments" for word in words) else []
    sys.argv += [*words, *former, *single]
    if words and not rank():
        print(f"Note: That run's settings hold where no others are typed: {_shown(words)}")


def _words_of_run(config_name: str, typed: Sequence[str]) -> list[str]:
    """Return the words with which the run that `resume` names was started, except for settings that are typed now."""
    from soft.runs.folder import as_absolute, run_folder

    folder = run_folder(as_absolute(compose(config_name, typed).get("resume")))
    keys = {key_of(word) for word in typed}
    groups = tuple(f"{key.replace('/', '.')}." for key in keys if is_group(key, config_folders(typed)))
    words = [
        word
        for word in (folder and recorded_words(folder)) or ()
        if key_of(word) not in {*keys, "resume", "output_dir"}
        and not key_of(word).startswith(groups)  # settings of the group that another option takes the place of
        and not ("${oc.env:" in word or MASK in word)  # a secret, which is not recorded
    ]
    try:
        compose(config_name, [*words, *typed])
    except (HydraException, OmegaConfBaseException):  # the configuration has other settings now
        if not rank():
            print(f"Note: That run's settings do not fit any more, and are not taken over: {_shown(words)}")
        return []
    return words


def _shown(words: Sequence[str]) -> str:
    return mask_text(" ".join(map(unquote, search_path_as_typed(words))))


def recorded_words(folder: Path) -> list[str] | None:
    """Return the overrides with which src/train.py began in a run's folder; None if they are not recorded.

    Of Hydra's own settings it is the one that says where configurations are found. Runs of before `run.json` had the
    words are read from what Hydra writes, which a later command may have replaced.
    """
    from soft.runs.folder import read_mark

    if "words" in (mark := read_mark(folder) or {}):
        return mark["words"]
    typed, hydra = (folder / ".hydra" / name for name in ("overrides.yaml", "hydra.yaml"))
    if not typed.is_file():
        return None
    recorded = (yaml.safe_load(hydra.read_text()) or {}).get("hydra", {}) if hydra.is_file() else {}
    if recorded.get("job", {}).get("name", "train") != "train":
        return None  # another command has written into the run's folder
    places = typed_search_path(map(str, recorded.get("overrides", {}).get("hydra") or ()))
    return [*places, *map(str, yaml.safe_load(typed.read_text()) or ())]


def _former_start(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return the words for soft_pico's former default start of the landmarks, with which an older run goes on."""
    if (cfg.get("model") or {}).get("name") != "soft_pico" or "global_scale" not in cfg.model.attention:
        return []
    typed = {word.partition("=")[0] for word in overrides}
    former = {"model.attention.landmark_gain": "1.0", "model.attention.global_scale": "null"}
    return [f"{key}={value}" for key, value in former.items() if key not in typed]


def compose(config_name: str, overrides: Sequence[str], whole: bool = False) -> DictConfig:
    """Return the configuration of a command, with no folder to write to, and with Hydra's own node if `whole`."""
    words = [word for word in overrides if not word.startswith("hydra") or word.startswith(f"{SEARCH_PATH}=")]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose(config_name, words, return_hydra_config=whole)
    GlobalHydra.instance().clear()
    cfg.output_dir = ""
    return cfg


def _folder_of(cfg: DictConfig, resume: str) -> Path | None:
    from soft.runs.folder import as_absolute, find_unfinished, holds, launch_name, read_mark, run_folder

    if "resume" not in cfg or cfg.preflight:
        return None
    recipe = masked(OmegaConf.to_container(cfg, resolve=True))
    if resume == "null":
        return find_unfinished(recipe, _folders(cfg.name), launch_name())
    if resume == "auto":
        return find_unfinished(recipe, _folders(cfg.name))
    folder = run_folder(as_absolute(cfg.resume))
    mark = folder and read_mark(folder)
    return folder if mark and holds(mark, recipe) else None


def _folders(name: str) -> Iterator[Path]:
    """Yield the folders of this name's runs, alone and as jobs of sweeps, where conf/train.yaml puts them."""
    for mark in ("*/run.json", "*/*/run.json"):
        for path in (Path("outputs") / str(name)).absolute().glob(mark):
            yield path.parent


def remove_refused(folder: Path, since: float) -> None:
    """Remove the folder of a command that was refused, with the empty folders around it.

    The folder stays if it holds anything older than this process, or anything that no command writes at its start, and
    if another process has it.

    Args:
        since: when this process started, in seconds since the epoch.
    """
    here = Path.cwd()
    if not folder.is_dir() or folder == here or folder in here.parents:
        return
    found = [path for path in folder.rglob("*") if ".hydra" not in path.relative_to(folder).parts]
    if any(not _is_of_start(path) or path.lstat().st_mtime < since for path in found) or _is_claimed(folder / ".lock"):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.parents:
        if here not in parent.parents:
            return
        try:
            parent.rmdir()
        except OSError:  # it holds something else
            return


def _is_claimed(lock: Path) -> bool:
    """Return whether another process has a folder (`soft.runs.folder.claim`)."""
    if not lock.exists():
        return False
    with lock.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:  # a file system without locks
            return False
    return False


def _is_of_start(path: Path) -> bool:
    return path.suffix == ".log" or path.name in ("run.json", ".lock")
