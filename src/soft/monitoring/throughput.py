"""The speed of training, as a metric."""

import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Throughput(Callback):
    """Callback that logs images_per_second over all devices, since the last value that was logged."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._images = time.perf_counter(), 0  # a resumed run may start in the middle of an epoch
        self._logged_step = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        self._images += len(batch[1]) * trainer.world_size
        now = time.perf_counter()
        # A tensor on the host: Lightning would copy a number to the device, and read it back for the progress bar.
        pl_module.log("images_per_second", torch.tensor(self._images / (now - self._start)), on_step=True)
        # Lightning logs in the same rhythm, so a logged value covers the time since the previous one. While gradients
        # are accumulated the step stays the same, and nothing is logged.
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 and step != self._logged_step:
            self._start, self._images, self._logged_step = now, 0, step
