"""What is measured and written beside the module's own metrics."""

import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from soft.training.curves import draw_curves
from soft.training.writing import explain_full_disk


class Throughput(Callback):
    """Logs images_per_second over all devices, since the last value that was logged."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._images = time.perf_counter(), 0  # a resumed run is in the middle of an epoch

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
        pl_module.log("images_per_second", self._images / (now - self._start), on_step=True)
        # The same rhythm as Lightning's logging: what a step logs is what passed since the previous logged one.
        if (trainer.global_step % trainer.log_every_n_steps) == 0:
            self._start, self._images = now, 0


class NewtonResidual(Callback):
    """Logs newton/residual_stage{1..3}: ‖I − A·A⁺‖_F / √m of the evaluated model on the first validation batch.

    Averaged over images, heads and the stage's blocks. It is measured by hooks on attention modules that offer
    `newton_residual`, so nothing is kept or computed in an ordinary forward pass.

    Args:
        images: how many images of the batch to measure.
    """

    def __init__(self, images: int = 16):
        self.images = images
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._residuals: dict[int, list[Tensor]] = {}

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx or trainer.sanity_checking:
            return
        self._residuals = {}
        for number, stage in enumerate(pl_module.evaluated_model.stages, start=1):
            for module in stage.modules():
                if hasattr(module, "newton_residual"):
                    self._hooks.append(module.register_forward_pre_hook(self._measure(number)))

    def _measure(self, stage: int):
        def hook(module: torch.nn.Module, inputs: tuple[Tensor, tuple[int, int]]) -> None:
            x, grid = inputs
            self._residuals.setdefault(stage, []).append(module.newton_residual(x[: self.images], grid).mean())

        return hook

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        for stage, values in self._residuals.items():
            pl_module.log(f"newton/residual_stage{stage}", torch.stack(values).mean(), on_epoch=True, sync_dist=True)
        self._residuals = {}


class Curves(Callback):
    """Draws curves.png from metrics.csv at the end of training, and during it at most once a minute.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._drawn = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self._drawn > 60:
            self._draw(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            with explain_full_disk(self.folder / "curves.png"):
                draw_curves(self.folder / "metrics.csv", self.folder / "curves.png")
            self._drawn = time.monotonic()
