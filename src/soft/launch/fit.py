"""Begins a run, and trains with loggers that know the run's settings and are closed at the end."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything

from soft.data.workers import explained_worker_errors
from soft.hardware.machine import describe_machine
from soft.monitoring.console import quiet_libraries
from soft.monitoring.loggers import finish_loggers, settings_to_filter
from soft.runs.last_checkpoint import check_weights
from soft.settings import check_whole


@dataclass(frozen=True)
class Clock:
    """Clock that starts when a run begins."""

    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.started


def begin(seed: int) -> Clock:
    """Start the clock of a run, quiet the libraries and seed every random generator; return the clock."""
    clock = Clock()
    quiet_libraries()
    check_whole("seed", seed, low=0)
    seed_everything(seed, workers=True, verbose=False)
    return clock


def restore(trainer: Trainer, module: LightningModule, checkpoint: Path) -> None:
    """Give `module` and the trainer's callbacks the state of a training that is over, as if it had just ended.

    Raises:
        SettingError: the checkpoint's weights do not fit the module.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    check_weights(module, state["state_dict"])
    module.load_state_dict(state["state_dict"])
    trainer.strategy.connect(module)
    for callback in trainer.callbacks:
        callback.on_load_checkpoint(trainer, module, state)
    for callback in trainer.callbacks:
        if callback.state_key in state["callbacks"]:
            callback.load_state_dict(state["callbacks"][callback.state_key])


def fit(
    trainer: Trainer,
    module: LightningModule,
    datamodule: LightningDataModule,
    facts: Mapping[str, object],
    checkpoint: Path | None = None,
    command: str | None = None,
) -> None:
    """Log the settings and conditions of the run, train, and close the loggers whatever happens.

    Args:
        trainer: the run's Trainer, with its loggers and callbacks.
        module: an `ImageClassifier`; its recipe says where the run writes.
        datamodule: the data.
        facts: facts of the run's plan, for the loggers.
        checkpoint: checkpoint to go on from; None to begin.
        command: the command that was typed, for the loggers.
    """
    recipe = module.recipe
    conditions = {
        "derived": dict(facts),
        "environment": describe_machine(trainer.strategy.root_device),
        "command": command,
    }
    with finish_loggers(trainer.loggers), explained_worker_errors(Path(recipe["output_dir"]) / "checkpoints"):
        for logger in trainer.loggers:
            logger.log_hyperparams({**settings_to_filter(recipe), **conditions})
        trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
