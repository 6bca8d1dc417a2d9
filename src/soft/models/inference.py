"""Rewrites of a trained model for inference alone, and the model as a program of its own."""

import copy
import warnings
from pathlib import Path

import torch
from timm.layers import BatchNormAct2d, ConvNormAct
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def optimise_for_inference(model: nn.Module) -> nn.Module:
    """Return a faster copy of `model` in evaluation mode, with the same outputs up to rounding.

    BatchNorm's running statistics are folded into the convolution before it. Convolution weights are laid out
    channels-last, which the convolutions' inputs and outputs then follow. The logits agree to about 1e-6 of their size
    in float32 and 1e-14 in float64, so that the class of an image on the border of two may change. The copy cannot be
    trained, and its state dict has other keys than the original's.

    Args:
        model: any model whose BatchNorm layers are in timm's ConvNormAct, such as a SoftTransformer.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.bn, BatchNormAct2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Sequential(module.bn.drop, module.bn.act)
    return model.to(memory_format=torch.channels_last)


def export_program(model: nn.Module, path: str | Path, img_size: tuple[int, int]) -> float:
    """Write `model` as a program that PyTorch runs without this code: `torch.export.load(path).module()`.

    Args:
        model: the model in evaluation mode, such as `optimise_for_inference` returns.
        path: the file to write, by custom with the ending .pt2.
        img_size: height and width of the inputs (B, in_chans, height, width) that the program takes, for any B. They
            are int64 for a model of token ids, and else of the model's own type.

    Returns:
        The largest difference between the logits of `model` and of the program that is read back from the file, on two
        inputs of noise, relative to the largest logit.
    """
    images = draw_input(model, 2, img_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # about weights that share storage
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, path)
    with torch.no_grad():
        ours, theirs = model(images), torch.export.load(path).module()(images)
    return float((ours - theirs).abs().max() / ours.abs().max())


def takes_token_ids(model: nn.Module) -> bool:
    """Return whether the model's inputs are token ids, and not images."""
    return getattr(model, "embedding_kind", None) == "table"


def draw_input(model: nn.Module, batch: int, img_size: tuple[int, int]) -> Tensor:
    """Draw inputs (batch, in_chans, height, width) that the model takes: token ids, or normal noise for images."""
    weight, shape = next(model.parameters()), (batch, model.in_chans, *img_size)
    if takes_token_ids(model):
        return torch.randint(model.vocabulary, shape, device=weight.device)
    return torch.randn(shape, dtype=weight.dtype, device=weight.device)
