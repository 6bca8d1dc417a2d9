"""The cost of a model's forward pass."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, image: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of one image's forward pass, which the papers call FLOPs.

    Args:
        image: (channels, height, width).
    """
    parameter = next(model.parameters())
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image, device=parameter.device, dtype=parameter.dtype))
    model.train(training)
    return counter.get_total_flops() // 2
