"""The moving average of a model's weights."""

import torch
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn


class WeightAverage(ModelEmaV3):
    """timm's average of weights, whose rounding in bfloat16 is a function of the step alone.

    timm rounds bfloat16 averages up or down at random, with a generator that stays on the CPU when the model moves to a
    GPU, and that no checkpoint holds.
    """

    def update(self, model: nn.Module, step: int | None = None) -> None:
        """Move the averages towards the weights of `model`, after optimiser step number `step`."""
        device = next(self.module.parameters()).device
        real = device.type == "cpu" or (device.type != "meta" and torch.accelerator.is_available())
        if real and self._sr_generator.device != device:
            self._sr_generator = torch.Generator(device=device)
        self._sr_generator.manual_seed(step or 0)
        super().update(model, step)


def share_statistics(models: list[nn.Module], ranks: int) -> None:
    """Give every rank the BatchNorm statistics of rank 0, which are those that a checkpoint holds.

    After a step each rank has statistics of its own, and would evaluate its images with them.
    """
    if ranks > 1:
        for model in models:
            distribute_bn(model, ranks, reduce=False)
