"""Synchronised BatchNorm: statistics of the global batch instead of each device's share of it."""

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor

from soft.training.over_ranks import mean_over_ranks


class SyncBatchNorm(LayerSync):
    """Plugin that synchronises the BatchNorm layers of a module's `model`; parameters and buffers keep their names.

    It replaces Lightning's own plugin, whose conversion loses the activation inside timm's layers and does not work on
    CPUs.

    Args:
        on_gpu: use PyTorch's kernels, which exist for GPUs only.
    """

    def __init__(self, on_gpu: bool):
        self.on_gpu = on_gpu

    def apply(self, model: LightningModule) -> LightningModule:
        if self.on_gpu:
            convert_sync_batchnorm(model.model)
            return model
        for layer in model.model.modules():
            if type(layer) is BatchNormAct2d:
                layer.__class__ = SyncedBatchNormAct2d
        return model

    def revert(self, model: LightningModule) -> LightningModule:
        return model  # outside training a synchronised layer computes what an ordinary one does


class SyncedBatchNormAct2d(BatchNormAct2d):
    """BatchNorm and activation, (B, C, H, W) -> (B, C, H, W), on any device; B is the same on every rank.

    Mean and variance are taken over the batches of all ranks together, and gradients flow through both. So N ranks
    compute what one rank would compute with the whole batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        # The variance takes a second pass, because the mean square minus the squared mean loses digits.
        mean = mean_over_ranks(x.mean(axes))
        centred = x - mean.view(1, -1, 1, 1)
        var = mean_over_ranks(centred.square().mean(axes))
        with torch.no_grad():
            count = dist.get_world_size() * x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(var.to(self.running_var) * (count / (count - 1)), self.momentum)
        x = centred * (self.weight * torch.rsqrt(var + self.eps)).view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return self.act(self.drop(x))
