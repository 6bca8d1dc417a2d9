"""Commands that are composed once and then answer to one setting after the other, in this process."""

import contextlib
import copy
import functools
import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from torch import nn

from cli import entry, mistakes
from cli.checks import default_config, leaves
from cli.command_line import rewrite
from cli.places import CONFIG_DIR
from soft.models import checkpoints, factory

# Where each command begins its work, or one of several kinds of it: everything before this has to answer to a wrong
# setting.
WORK = {
    "benchmark": "soft.benchmark.reporter.Reporter.start",
    "dashboard": "soft.studies.workspace.outline",
    "evaluate": "lightning.pytorch.Trainer.validate",
    "export": "soft.export.torch_program.export_program",
    "predict": "soft.prediction.predictor.create_loader",
    "report": ("soft.studies.sweep_report.aggregate", "soft.studies.run_report.write_page"),
    "train": "soft.launch.fit.fit",
    "verify_data": "soft.data.verification.find_bad_images",
    "visualize": "matplotlib.figure.Figure.savefig",
    "write_shards": "soft.data.shard_writer.write_shards",
}


class Accepted(BaseException):
    """Raised in place of a command's work."""


@dataclass(frozen=True)
class Answer:
    """What a command says to its words: the exit code, None if it would begin its work, and the message."""

    code: int | None
    message: str


class Command:
    """A command with some words, composed once.

    Attributes:
        settings: (dotted key, default) of each of its settings.
    """

    def __init__(self, name: str, *words: str, folder: Path):
        self.name = name
        self._run = importlib.import_module(name).main.run
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            self._hydra = GlobalHydra.instance().hydra
            self._words = rewrite(words, name)
            self._cfg = self._hydra.compose_config(name, self._words, run_mode=RunMode.RUN)
            OmegaConf.set_readonly(self._cfg.hydra, None)
            with flag_override(self._cfg, "struct", False):
                self._cfg.hydra.runtime.output_dir = str(folder)
                self._cfg.hydra.job.name = self._cfg.hydra.job.config_name = name
            HydraConfig.instance().set_config(self._cfg)
            self._hydra_cfg = HydraConfig.instance().cfg
            self._defaults = default_config([CONFIG_DIR])
        self._task = copy.deepcopy(self._cfg)
        with flag_override(self._task, ["readonly", "struct"], False):
            del self._task["hydra"]
        self.settings = list(leaves(self._defaults))
        self._pickled = pickle.dumps(self._task)  # is read in less time than a deep copy takes

    def answer(self, word: str) -> Answer:
        """Return what the command says to one more word."""
        argv = list(sys.argv)
        try:
            with self._active():
                return self._answer(word)
        finally:
            sys.argv[:] = argv

    def _answer(self, word: str) -> Answer:
        try:
            words = rewrite([word], self.name)
            sys.argv[1:] = [*self._words, *words]
            OmegaConf.set_readonly(HydraConfig.instance().cfg.hydra, None)
            HydraConfig.instance().cfg.hydra.overrides.task = [*self._words, *words]
            task = pickle.loads(self._pickled)
            ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(words), task)
            self._run(task, self._defaults, [CONFIG_DIR])
        except Accepted:
            return Answer(None, "")
        except SystemExit as error:
            return Answer(error.code, "")
        except Exception as error:
            message = mistakes.explain(error, self.name)
            return Answer(entry.REFUSED, message) if message is not None else Answer(1, repr(error))
        return Answer(0, "")

    def _leaves(self, cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
        return iter(self.settings) if cfg is self._defaults else leaves(cfg, prefix)

    @contextlib.contextmanager
    def _active(self) -> Iterator[None]:
        GlobalHydra.instance().hydra = self._hydra
        HydraConfig.instance().cfg = self._hydra_cfg  # `set_config` would copy all of it
        with (
            contextlib.redirect_stdout(io.StringIO()),
            _begin_nothing(self.name),
            mock.patch.object(mistakes, "_known_keys", _known_keys),
            mock.patch("cli.checks.leaves", self._leaves),
            mock.patch("soft.launch.plan.count_macs", return_value=0),
            mock.patch("soft.models.factory.create_from_checkpoint", _model),
            mock.patch("soft.models.checkpoints.read_entry", _read_entry),
            mock.patch("soft.models.metadata.read_entry", _read_entry),
        ):
            yield


@contextlib.contextmanager
def _begin_nothing(name: str) -> Iterator[None]:
    places = WORK[name] if isinstance(WORK[name], tuple) else (WORK[name],)
    with contextlib.ExitStack() as patches:
        for place in places:
            patches.enter_context(mock.patch(place, side_effect=Accepted))
        yield


def _known_keys(config_name: str, groups: Sequence[str], words: Sequence[str]) -> list[str]:
    return _composed_keys(config_name, tuple(groups))


_create = factory.create_from_checkpoint


def _model(path: str, config: Mapping[str, object] | None, weights: object, **options: object) -> nn.Module:
    """Return the model of a checkpoint, which is built once for all settings of other things."""
    key = repr((str(path), config, weights, options))
    if key not in _models:
        _models[key] = _create(path, config, weights, **options)
    return _models[key]


_read_entry = functools.cache(checkpoints.read_entry)
_models: dict[str, nn.Module] = {}
_unpatched: Callable[..., list[str]] = mistakes._known_keys


@functools.cache
def _composed_keys(config_name: str, groups: tuple[str, ...]) -> list[str]:
    hydra = GlobalHydra.instance().hydra
    keys = _unpatched(config_name, groups, ())
    GlobalHydra.instance().hydra = hydra
    return keys
