"""Compiles the model for training steps, as the setting trainer.compile says."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from soft.errors import SettingError

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compiled_call(model: nn.Module, how: bool | str | None) -> Callable[[Tensor], Tensor]:
    """Return the function that a training step calls: the model itself, or its compiled form.

    A function is returned instead of a module, so that the model keeps its parameter names. Checkpoints are then the
    same with and without compilation, and every other use of the model stays uncompiled.

    Args:
        model: images (B, 3, H, W) -> logits (B, num_classes).
        how: None or False for the model itself, True for torch.compile's defaults, else one of its modes or backends.

    Raises:
        SettingError: `how` is none of these.
    """
    if how is None or how is False:
        return model.__call__
    if how is True:
        return torch.compile(model).__call__
    if how in MODES:
        return torch.compile(model, mode=how).__call__
    if how not in torch.compiler.list_backends(exclude_tags=None):
        raise SettingError(
            f"trainer.compile={how!r} is not known; it is true, false, a mode ({', '.join(MODES)}) or a backend of "
            "torch.compile such as inductor or aot_eager."
        )
    return torch.compile(model, backend=how).__call__
