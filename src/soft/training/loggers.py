"""Loggers with this project's conventions on top of Lightning's."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger

from soft.errors import SettingError
from soft.settings import check_choice

WANDB_MODES = ("auto", "online", "offline", "disabled")


class WandbRunLogger(WandbLogger):
    """WandbLogger whose run summarises the validation metrics by their best value."""

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        fresh = self._experiment is None
        run = super().experiment
        if fresh:
            for prefix in ("val", "val_raw"):
                run.define_metric(f"{prefix}/top1", summary="max")
                run.define_metric(f"{prefix}/top5", summary="max")
                run.define_metric(f"{prefix}/loss", summary="min")
        return run


def create_wandb_logger(save_dir: str, mode: str = "auto", **options: object) -> WandbRunLogger:
    """A W&B run that never asks for an account.

    Args:
        save_dir: the run's folder; offline data goes to `wandb/` below it.
        mode: `auto` is online when WANDB_API_KEY is set (or as WANDB_MODE says) and offline otherwise.
        options: further arguments of `wandb.init`, such as `project`, `name`, `group`, `tags`.
    """
    mode = resolve_wandb_mode(mode)
    return WandbRunLogger(save_dir=save_dir, offline=mode == "offline", mode=mode, **options)


def resolve_wandb_mode(mode: str) -> str:
    """A mode of `create_wandb_logger` -> online, offline or disabled."""
    check_choice("logger.wandb.mode", mode, WANDB_MODES)
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        raise SettingError(
            "logger.wandb.mode=online needs WANDB_API_KEY in the environment; mode=offline needs nothing."
        )
    return mode


def wandb_server() -> str:
    """The URL that online runs talk to."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


@contextmanager
def finish_loggers(loggers: Iterable[Logger]) -> Iterator[None]:
    """Closes a W&B run at the end, as failed when the body raised: the next run of a sweep then starts its own."""
    try:
        yield
    except BaseException:
        _finish(loggers, exit_code=1)
        raise
    _finish(loggers, exit_code=0)


def _finish(loggers: Iterable[Logger], exit_code: int) -> None:
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        wandb.finish(exit_code=exit_code)
