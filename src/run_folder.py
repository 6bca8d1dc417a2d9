"""Which folder a command runs in, where that is one that a run has already: settled before Hydra makes a new one."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from masking import masked


def find_folder(config_dir: Path, config_name: str) -> None:
    """Add `hydra.run.dir=...` to the command line where `resume` names a run, or means one (`auto`).

    Nothing is added where a folder is named already: jobs of a sweep have theirs, and `resume=auto` then goes on with
    what is in it.
    """
    try:
        args = get_args_parser().parse_args()
    except SystemExit:  # Hydra will say it
        return
    named = any(word.startswith(("hydra.run.dir=", "output_dir=")) for word in args.overrides)
    resume = next((word.partition("=")[2] for word in reversed(args.overrides) if word.startswith("resume=")), None)
    requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if named or args.multirun or args.cfg or args.help or args.hydra_help or args.info or not (resume or requeued):
        return
    try:
        folder = _folder_of(compose(config_dir, args.config_name or config_name, args.overrides), resume)
    except (HydraException, OmegaConfBaseException):  # Hydra will say it
        return
    if folder is not None:
        # In quotes, for names with signs that Hydra's grammar knows.
        sys.argv.append(f'hydra.run.dir="{folder}"')


def compose(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    """The configuration of this command, with no folder to write to."""
    with hydra.initialize_config_dir(str(config_dir), version_base="1.3"):
        cfg = hydra.compose(config_name, [word for word in overrides if not word.startswith("hydra")])
    GlobalHydra.instance().clear()
    cfg.output_dir = ""
    return cfg


def _folder_of(cfg: DictConfig, resume: str | None) -> Path | None:
    from soft.training.runs import comparable, find_unfinished, read_mark, run_folder, this_launch

    if "resume" not in cfg or cfg.preflight:
        return None
    recipe = comparable(masked(OmegaConf.to_container(cfg, resolve=True)))
    if resume in (None, "null"):
        return find_unfinished(recipe, _folders(cfg.name), this_launch())
    if resume == "auto":
        return find_unfinished(recipe, _folders(cfg.name))
    folder = run_folder(Path(str(cfg.resume)).expanduser().absolute())
    return folder if folder is not None and read_mark(folder)["recipe"] == recipe else None


def _folders(name: str) -> Iterator[Path]:
    """Where runs of this name are, by conf/train.yaml: alone and as jobs of sweeps."""
    for mark in ("*/run.json", "*/*/run.json"):
        for path in (Path("outputs") / name).absolute().glob(mark):
            yield path.parent
