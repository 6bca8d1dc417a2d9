"""A callback that makes one process of a run fail: `+callbacks.fault._target_=tests.end_to_end.faults.Fault`."""

import os
import signal

from lightning.pytorch import Callback, LightningModule, Trainer


class Fault(Callback):
    """What happens on one rank after some optimiser steps.

    Args:
        rank: of the process.
        step: optimiser steps done before.
        how: raise (an exception) or kill (as the kernel does when memory runs out).
    """

    def __init__(self, rank: int = 1, step: int = 2, how: str = "raise"):
        self.rank, self.step, self.how = rank, step, how

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, batch_idx: int) -> None:
        if (trainer.global_rank, trainer.global_step) != (self.rank, self.step):
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"a fault on rank {self.rank}")
