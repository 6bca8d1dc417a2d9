"""Finds the folder of a run that a command goes on with, before Hydra makes a new one."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.command_line import SEARCH_PATH, parse, quote
from cli.places import CONFIG_DIR
from cli.secrets import masked


def find_folder(config_name: str) -> None:
    """Add `hydra.run.dir=...` to the command line if the command goes on with a run.

    It does so if `resume` names a run, if `resume=auto` finds one, or if SLURM has queued the job again. Nothing is
    added if a folder is named already, as for the jobs of a sweep; `resume=auto` then goes on with what is in it.
    """
    args = parse(sys.argv[1:])
    named = any(word.startswith(("hydra.run.dir=", "output_dir=")) for word in args.overrides)
    resume = next((word.partition("=")[2] for word in reversed(args.overrides) if word.startswith("resume=")), None)
    requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if named or args.multirun or args.cfg or args.help or args.hydra_help or args.info or not (resume or requeued):
        return
    try:
        cfg = compose(args.config_name or config_name, args.overrides)
        folder, words = _folder_of(cfg, resume), []
        if folder is None and (words := _former_start(cfg, args.overrides)):
            folder = _folder_of(compose(args.config_name or config_name, [*args.overrides, *words]), resume)
    except (HydraException, OmegaConfBaseException):  # Hydra will meet the same error and report it
        return
    if folder is not None:
        sys.argv += [*words, f"hydra.run.dir={quote(folder)}"]


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


def _folder_of(cfg: DictConfig, resume: str | None) -> Path | None:
    from soft.runs.folder import as_absolute, find_unfinished, holds, read_mark, run_folder, this_launch

    if "resume" not in cfg or cfg.preflight:
        return None
    recipe = masked(OmegaConf.to_container(cfg, resolve=True))
    if resume in (None, "null"):
        return find_unfinished(recipe, _folders(cfg.name), this_launch())
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

    The folder stays if it holds anything older than this process, or anything that no command writes at its start.

    Args:
        since: when this process started, in seconds since the epoch.
    """
    here = Path.cwd()
    if not folder.is_dir() or folder == here or folder in here.parents:
        return
    found = [path for path in folder.rglob("*") if ".hydra" not in path.relative_to(folder).parts]
    if any(not _is_of_start(path) or path.lstat().st_mtime < since for path in found):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.parents:
        if here not in parent.parents:
            return
        try:
            parent.rmdir()
        except OSError:  # it holds something else
            return


def _is_of_start(path: Path) -> bool:
    return path.suffix == ".log" or path.name in ("run.json", ".lock")
