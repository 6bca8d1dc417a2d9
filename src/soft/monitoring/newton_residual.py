"""How well Newton-Raphson inverts, as a metric."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class NewtonResidual(Callback):
    """Callback that logs newton/residual_stage{1..3}: ‖I − A·A⁺‖_F / √m of the evaluated model.

    It is measured on the first validation batch, and averaged over images, heads and the stage's blocks. Hooks on
    attention modules that have a `newton_residual` measure it, so an ordinary forward pass computes nothing for it.

    Args:
        images: how many images of the batch are measured.
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
