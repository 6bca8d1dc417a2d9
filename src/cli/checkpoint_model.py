"""Lets a training begin with a checkpoint's model: the settings that it names are added to the command.

They are added as if they had been typed, before Hydra composes. So names, folders, suggested settings and the
recognition of the same run follow the checkpoint's model too.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.checks import check_single
from cli.command_line import ConfigError, parse, quote
from cli.places import STUDIES
from cli.process import prepare_process
from cli.run_folder import compose

FINETUNE = "finetune"  # the one file of experiments/ that is no study
_FOLDERS = ("resume", "hydra.run.dir", "output_dir")  # settings that can name the folder of a run to go on with
_NONE = object()


def add_checkpoint_model(config_name: str) -> None:
    """Add the model of `checkpoint=...` to the command line of a training, unless a model or a study is typed.

    Raises:
        ConfigError: the checkpoints of a sweep have different models.
        SettingError: a checkpoint cannot be read, or does not say which model it holds.
    """
    args = parse(sys.argv[1:])
    if config_name != "train" or args.help or args.hydra_help or args.info:
        return
    try:
        overrides = OverridesParser.create().parse_overrides(args.overrides)
        typed = {override.get_key_element().lstrip("+~"): override for override in overrides}
        paths = _values(typed["checkpoint"]) if "checkpoint" in typed else []
        if not paths or "model" in typed:
            return
        single = [override.input_line for override in overrides if not override.is_sweep_override()]
        cfg = compose(config_name, single)
    except (HydraException, OmegaConfBaseException):  # Hydra will meet the same error and report it
        return
    if "name" in cfg.get("study", {}):
        return
    if "process" in cfg:
        prepare_process(**cfg.process)  # before PyTorch is loaded
    if not typed["checkpoint"].is_sweep_override():
        paths = [cfg.checkpoint]  # interpolations are resolved
    configs = [_recorded(path, typed) for path in paths]
    words = [list(_words(config_name, single, typed, config)) for config in configs]
    for path, others in zip(paths, words, strict=True):
        if others != words[0]:
            raise ConfigError(
                f"checkpoint={paths[0]} and {path} have different models; choose one with model=NAME, or start a "
                "sweep for each."
            )
    sys.argv += words[0]


def check_checkpoint(cfg: DictConfig) -> None:
    """Refuse fine-tuning without a checkpoint, and several checkpoints.

    Raises:
        ConfigError: the command does one of these.
    """
    check_single(cfg, "checkpoint")
    if cfg.checkpoint is None and HydraConfig.get().runtime.choices.get(STUDIES) == FINETUNE:
        raise ConfigError(f"{STUDIES}={FINETUNE} begins with trained weights; add checkpoint=PATH.")


def _values(override: Override) -> list[str]:
    """Return the texts that a word such as checkpoint=A or checkpoint=A,B gives; none for null or a list."""
    value = override.value()
    found = value.list if override.is_sweep_override() else [value]
    texts = [each.text if isinstance(each, QuotedString) else each for each in found]
    return [text for text in texts if isinstance(text, str)]


def _recorded(path: str, typed: Mapping[str, Override]) -> Mapping[str, object]:
    """Return the configuration of a checkpoint's model.

    A run that goes on does not read the checkpoint again. So if the file is gone, the configuration that such a run has
    recorded is returned.
    """
    from soft.models.factory import find_config, regroup
    from soft.runs.folder import read_mark, run_folder

    if not Path(path).expanduser().exists():
        named = [Path(text).absolute() for key in _FOLDERS if key in typed for text in _values(typed[key])]
        for folder in filter(None, [*map(run_folder, named), *Path("outputs").glob("*/*")]):
            mark = read_mark(folder)
            if mark and mark["recipe"].get("checkpoint") == path:
                return regroup(mark["recipe"]["model"])
    return find_config(path)


def _words(
    config_name: str, overrides: Sequence[str], typed: Mapping[str, Override], config: Mapping[str, object]
) -> Iterator[str]:
    """Yield the words that choose the model, and those of its settings that differ from the command's own."""
    chosen = [f"model={config['name']}"]
    cfg = compose(config_name, [*overrides, *chosen], whole=True)
    varied = cfg.hydra.sweeper.get("params") or {}  # a search varies these, and a typed value would hold in all trials
    attention = dict(config["attention"])
    kind = attention.pop("attention", None)
    if "model/attention" in typed:
        attention = {}
    elif kind not in (None, cfg.model.attention.attention):
        chosen.append(f"model/attention={kind}")
        cfg = compose(config_name, [*overrides, *chosen])
    yield from chosen
    own = {f"model.{key}": value for key, value in config.items() if key not in ("name", "attention")}
    own |= {f"model.attention.{key}": value for key, value in attention.items()}
    for key, value in own.items():
        if key in typed or key in varied:
            continue
        there = OmegaConf.select(cfg, key, default=_NONE)
        there = OmegaConf.to_container(there) if OmegaConf.is_config(there) else there
        value = list(value) if isinstance(value, tuple) else value
        if there != value:
            sign = "+" if there is _NONE else ""
            yield f"{sign}{key}={quote(value) if isinstance(value, str) else json.dumps(value)}"
