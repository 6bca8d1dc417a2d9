"""Callbacks that spoil a training, for tests: `+callbacks.poison._target_=tests.end_to_end.poison.Poison`."""

import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Poison(Callback):
    """One image of each batch on one rank is no number, from an optimiser step on.

    Args:
        rank: of the process.
        step: optimiser steps before the first.
        steps: how many are spoilt.
    """

    def __init__(self, rank: int, step: int, steps: int = 1):
        self.rank, self.steps = rank, range(step, step + steps)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: tuple, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and trainer.global_step in self.steps:
            batch[0][0] = torch.nan


class Slow(Callback):
    """The third step takes a minute; a file `sleeping` in the working directory says when it has begun."""

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: tuple, batch_idx: int) -> None:
        if trainer.global_step == 2:
            Path("sleeping").touch()
            time.sleep(60)
