"""torch.compile as a setting."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from soft.errors import SettingError

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compiled_call(model: nn.Module, how: bool | str | None) -> Callable[[Tensor], Tensor]:
    """What to call instead of `model` in training: the model itself, or its compiled form.

    A function and no module: the model keeps its parameter names, so checkpoints are the same either way, and every
    other use of it runs as without.

    Args:
        how: null or false for the model itself, true for torch.compile's defaults, else one of its modes or backends.

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
