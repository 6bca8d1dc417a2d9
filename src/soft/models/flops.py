"""The cost of a model's forward pass."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, image: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of one image's forward pass, which the papers call FLOPs.

    They follow from shapes alone: the weights are replaced by tensors without values, so that an iteration which ends
    early on some values counts with all its steps, and a product counts the same whichever kernel a device has for it.

    Args:
        image: (channels, height, width).
    """
    meta = {name: tensor.to("meta") for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    modes = {module: module.training for module in model.modules()}  # frozen parts are in evaluation mode
    model.eval()
    try:
        return _count(model, meta, image)
    except Exception:  # a module that reads values can raise anything on tensors without them
        return _count(model, {}, image)
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def _count(model: nn.Module, replaced: Mapping[str, Tensor], image: tuple[int, int, int]) -> int:
    like = next(iter(replaced.values()), next(model.parameters()))
    with FlopCounterMode(display=False) as counter:
        functional_call(model, dict(replaced), torch.zeros(1, *image, device=like.device, dtype=like.dtype))
    return counter.get_total_flops() // 2
