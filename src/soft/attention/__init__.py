"""Attention modules behind one socket, `forward(x: (B, N, C), grid: (H, W)) -> (B, N, C)`, chosen by name.

On request, and at no cost to `forward`, a module tells about the input x and grid that `forward` got:

- `attention_map(x, grid, queries)`: rows of the N×N matrix that V is multiplied with; every attention has it.
- `branches(x, grid)`: the global and the local term of the output; every attention has it, and `share` compares them.
- `kernel_mean(x, grid)`: the mean of P; SOFT has it.
- `newton_residual(x, grid)`: the distance of A⁺ from an inverse of A; SOFT has it.
"""

import difflib
import inspect

from torch import nn

from soft.attention.linformer import LinformerAttention
from soft.attention.none import NoAttention
from soft.attention.nystromformer import NystromAttention
from soft.attention.performer import PerformerAttention
from soft.attention.soft import NormalisedSoftAttention, SoftAttention
from soft.attention.softmax import SoftmaxAttention
from soft.errors import SettingError
from soft.settings import check_choice

ATTENTIONS: dict[str, type[nn.Module]] = {
    "soft": SoftAttention,
    "soft_norm": NormalisedSoftAttention,
    "softmax": SoftmaxAttention,
    "linformer": LinformerAttention,
    "performer": PerformerAttention,
    "nystromformer": NystromAttention,
    "none": NoAttention,
}


class UnknownOptionError(SettingError, TypeError):
    """An option that the attention does not have.

    It is a TypeError too, which Python raises for unknown arguments and timm expects.
    """


_FROM_BACKBONE = ("dim", "num_heads", "grid", "conv_size")


def attention_options(name: str) -> list[str]:
    """Return the options of attention `name`, such as `num_landmarks`.

    Raises:
        SettingError: there is no such attention.
    """
    check_choice("attention", name, ATTENTIONS)
    return [p for p in inspect.signature(ATTENTIONS[name]).parameters if p not in _FROM_BACKBONE]


def create_attention(
    name: str, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int, **options: object
) -> nn.Module:
    """Build attention `name` for one block.

    Args:
        name: one of `ATTENTIONS`.
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: height and width in tokens that it is sized for.
        conv_size: k of the k×k depthwise convolution of V, for the attentions that have it; 0 for no convolution of V.
        options: the attention's own, such as `num_landmarks`, see `attention_options`.

    Raises:
        SettingError: unknown name or option (`UnknownOptionError`), or a value that the attention refuses.
    """
    known = attention_options(name)
    for option in options:
        if option not in known:
            takes = f"its options are {', '.join(known)}" if known else "it takes none"
            close = difflib.get_close_matches(option, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise UnknownOptionError(f"attention={name!r} has no option {option!r}; {takes}.{meant}")
    return ATTENTIONS[name](dim, num_heads, grid, conv_size, **options)
