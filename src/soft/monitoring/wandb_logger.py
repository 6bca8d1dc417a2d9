"""Weights & Biases runs that work with and without an account.

The package is imported only where it is used: a machine for benchmarks may not have it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from soft.errors import SettingError
from soft.monitoring.csv_logger import CsvLogger
from soft.runs.folder import METRICS, read_mark
from soft.runs.metrics import BEST, best_of
from soft.runs.result import read_metrics
from soft.settings import as_text, check_choice

if TYPE_CHECKING:
    import wandb

# Settings of a run that wandb.init takes as texts.
_TEXTS = frozenset({"entity", "project", "name", "group", "job_type", "notes"})
WANDB_MODES = ("auto", "online", "offline", "disabled")
_FORMER_MODES = {"run": "online", "dryrun": "offline"}  # W&B still reads these names from WANDB_MODE


class WandbRunLogger(WandbLogger):
    """WandbLogger that summarises a run's validation metrics by their best values.

    Attributes:
        resumed: whether the run goes on from a checkpoint.
    """

    resumed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        fresh = self._experiment is None
        run = super().experiment
        if fresh:
            for name, best in BEST.items():
                run.define_metric(name, summary=best)
        return run

    @property
    def disabled(self) -> bool:
        """Return whether W&B keeps nothing of what is logged."""
        return self._wandb_init.get("mode") == "disabled"

    def name_run(
        self,
        name: str,
        group: str | None = None,
        tags: Iterable[str] = (),
        more_tags: Iterable[str] = (),
        job_type: str | None = None,
    ) -> None:
        """Name a run that has not started; values that its settings give already stay.

        Args:
            more_tags: tags that are added in any case.
        """
        init = self._wandb_init
        self._name = init["name"] = init["name"] or name
        init["group"] = init.get("group") or group
        init["job_type"] = init.get("job_type") or job_type
        chosen = list(tags) if init.get("tags") is None else init["tags"]
        init["tags"] = list(dict.fromkeys([*chosen, *more_tags]))

    def begin_new_run(self) -> None:
        """Log to a new W&B run, even in the folder of a training that has one."""
        self._id = self._wandb_init["id"] = None

    @rank_zero_only
    def summarise(self, loggers: Iterable[Logger]) -> None:
        """Set a resumed run's summary to the whole run's best values; W&B knows only what this process has logged."""
        tables = [Path(logger.log_dir) / METRICS for logger in loggers if isinstance(logger, CsvLogger)]
        import wandb

        if not self.resumed or wandb.run is None:
            return
        for table in filter(Path.is_file, tables):
            metrics = read_metrics(table)
            for name in BEST.keys() & metrics.keys():
                _, best = best_of(metrics, name, BEST[name])
                self.experiment.summary.update({name: {BEST[name]: best}})


def create_wandb_logger(
    save_dir: str, mode: str = "auto", log_model: bool | str | None = None, **options: object
) -> WandbRunLogger:
    """Return a logger of a W&B run, which never asks for an account.

    Args:
        save_dir: the run's folder; offline data goes to `wandb/` below it.
        mode: `online`, `offline`, `disabled`, or `auto` for what WANDB_MODE says and, if that is not set, online with a
            login and offline without one.
        log_model: checkpoints as artifacts: True for the best one at the end, `all` for each one as it is written.
        options: further arguments of `wandb.init`, such as `project`, `name`, `group`, `tags`. The default of `id` is
            the id of the run in `save_dir`, if there is one: a run that goes on does so in W&B too.

    Raises:
        SettingError: an option is unknown or of the wrong type, or an offline run is to upload checkpoints.
    """
    mode = resolve_wandb_mode(mode)
    if log_model not in (None, True, False):
        check_choice("logger.wandb.log_model", log_model, ("true", "false", "all"))
    if log_model and mode == "offline":
        raise SettingError(
            f"logger.wandb.log_model={str(log_model).lower()} uploads checkpoints, and this run is offline; log "
            "in with `wandb login` and set logger.wandb.mode=online, or leave out logger.wandb.log_model."
        )
    for name in _TEXTS & options.keys():
        if options[name] is not None:
            options[name] = as_text(f"logger.wandb.{name}", options[name])
    if (tags := options.get("tags")) is not None:
        if isinstance(tags, str) or not isinstance(tags, Sequence):
            raise SettingError(f"logger.wandb.tags={tags} has to be a list of texts, such as [first,second].")
        options["tags"] = [as_text("logger.wandb.tags", tag) for tag in options["tags"]]
    if mark := read_mark(Path(save_dir)):
        options.setdefault("id", mark["id"])
    if mode == "disabled":
        log_model = False
    return WandbRunLogger(
        save_dir=save_dir, offline=mode == "offline", mode=mode, log_model=log_model or False, **options
    )


def resolve_wandb_mode(mode: str) -> str:
    """Return online, offline or disabled for a mode of `create_wandb_logger`.

    Raises:
        SettingError: the mode is unknown, or online without a login.
    """
    check_choice("logger.wandb.mode", mode, WANDB_MODES)
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_wandb_login() else "offline")
        mode = _FORMER_MODES.get(mode, mode)
        check_choice("WANDB_MODE", mode, WANDB_MODES[1:])
    if mode == "online" and not has_wandb_login():
        raise SettingError(
            "logger.wandb.mode=online needs a login: `wandb login` or WANDB_API_KEY in the environment; mode=offline "
            "needs nothing."
        )
    return mode


def has_wandb_login() -> bool:
    """Return whether W&B would find a key: in the environment, in its settings or in a netrc file.

    The user is not asked and no server is called, as `wandb.login` would do.
    """
    import wandb
    from wandb.sdk.lib.wbauth import read_netrc_auth

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if wandb.setup().settings.api_key:
        return True
    try:
        return read_netrc_auth(host=wandb_server()) is not None
    except wandb.errors.AuthenticationError as error:
        raise SettingError(f"The key for {wandb_server()} in the netrc file is not one of W&B: {error}") from error


def wandb_server() -> str:
    """Return the URL that online runs talk to."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
