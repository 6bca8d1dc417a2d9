"""Makes one process of a run fail: `+callbacks.fault._target_=tests.end_to_end.faults.Fault`."""

import os
import signal
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class Fault(Callback):
    """Callback that makes one rank fail after some optimiser steps.

    Args:
        rank: the rank that fails.
        step: number of optimiser steps before the failure.
        how: `raise` an exception, or `kill` the process as the kernel does when memory runs out.
        mark: file to write at that moment.
    """

    def __init__(self, rank: int = 1, step: int = 2, how: str = "raise", mark: str | None = None):
        self.rank, self.step, self.how, self.mark = rank, step, how, mark

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, batch_idx: int) -> None:
        if (trainer.global_rank, trainer.global_step) != (self.rank, self.step):
            return
        if self.mark:
            Path(self.mark).touch()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"a fault on rank {self.rank}")
