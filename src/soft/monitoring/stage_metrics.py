"""Metrics of the attention modules, stage by stage, from the first validation batch."""

import re
from collections.abc import Callable, Mapping

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from soft.settings import check_whole

# Measures a module on the input x (B, N, C) and the grid of its `forward`; returns a value per image (and head).
Measure = Callable[[nn.Module, Tensor, tuple[int, int]], Tensor]


class StageMetrics(Callback):
    """Callback that logs `measures` of the evaluated model's attention, as NAME_stage1, NAME_stage2 and so on.

    A value is the mean over the first images of the first validation batch and over the stage's blocks. Under DDP it is
    the mean over the ranks, each with its own first batch. Validation batches are always in the same order, and nothing
    is drawn at random. While that batch runs, hooks on the attention modules measure on the modules' inputs, so the
    model runs no second forward pass, and no other batch is slowed down. A model without stages counts as one stage.

    Args:
        measures: by name, a function that says whether a measure applies to a module, and the measure.
        images: how many images of the batch are measured; 0 for none, which logs nothing.
        setting: the name of `images` for messages.
    """

    def __init__(self, measures: Mapping[str, tuple[Callable[[nn.Module], bool], Measure]], images: int, setting: str):
        check_whole(setting, images, 0)
        self.measures = measures
        self.images = images
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._found: dict[str, list[Tensor]] = {}

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx or not self.images or trainer.sanity_checking:
            return
        self._found = {}
        for path, module in pl_module.evaluated_model.named_modules():
            for name, (applies, measure) in self.measures.items():
                if applies(module):
                    found = self._found.setdefault(f"{name}_stage{stage_of(path)}", [])
                    self._hooks.append(module.register_forward_pre_hook(self._hook(measure, found)))

    def _hook(self, measure: Measure, found: list[Tensor]):
        def hook(module: nn.Module, inputs: tuple[Tensor, tuple[int, int]]) -> None:
            x, grid = inputs
            found.append(measure(module, x[: self.images], grid).mean())

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
        self._remove_hooks()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._remove_hooks()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found, self._found = self._found, {}
        for name, values in found.items():
            # A rank measures nothing if none of its first images could be read, and takes part in the sum all the same.
            value = torch.stack(values).mean() if values else torch.zeros((), device=pl_module.device)
            pair = torch.stack([value, torch.full_like(value, bool(values))])
            total, ranks = trainer.strategy.reduce(pair, reduce_op="sum")
            if ranks:
                pl_module.log(name, total / ranks)

    def _remove_hooks(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


def stage_of(path: str) -> int:
    """Return the number, from 1, of the stage that a module's name lies in; 1 for a model without stages."""
    stage = re.search(r"(?:^|\.)stages\.(\d+)\.", path)
    return int(stage[1]) + 1 if stage else 1
