"""Callbacks that spoil a training, for tests: `+callbacks.poison._target_=tests.end_to_end.poison.Poison`."""

import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Poison(Callback):
    """Callback that sets one image of each batch to NaN, on one rank and in some optimiser steps.

    Args:
        rank: the rank whose batches are spoilt.
        step: number of optimiser steps before the first spoilt one.
        steps: number of spoilt steps.
    """

    def __init__(self, rank: int, step: int, steps: int = 1):
        self.rank, self.steps = rank, range(step, step + steps)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: tuple, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and trainer.global_step in self.steps:
            batch[0][0] = torch.nan


class Slow(Callback):
    """Callback that makes the third step take a minute, and writes the file `sleeping` when that step begins."""

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: tuple, batch_idx: int) -> None:
        if trainer.global_step == 2:
            Path("sleeping").touch()
            time.sleep(60)
