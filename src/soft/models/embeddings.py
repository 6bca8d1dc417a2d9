"""Tokens of the flat encoder: from token ids or values, with fixed positions."""

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from soft.attention.precision import parameter_type
from soft.errors import SettingError

PADDING = 0  # token id
ASK = 1  # token id that marks the position to read at


class TokenEmbedding(nn.Module):
    """Sum of one learned vector per field: token ids (B, fields, H, W) below `vocabulary` -> tokens (B, H·W, C).

    Token ids in a floating-point type are taken too, as a probe of a model's cost hands them over.
    """

    def __init__(self, vocabulary: int, fields: int, dim: int):
        super().__init__()
        self.vocabulary = vocabulary
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, dim) for _ in range(fields))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).long()
        return torch.stack([table(x[:, field]) for field, table in enumerate(self.tables)]).sum(0)


class ValueEmbedding(nn.Module):
    """Linear map of values: (B, in_chans, H, W) -> tokens (B, H·W, C).

    Integers from 0 to `vocabulary` - 1, such as grey values, are scaled to the range from -1 to 1 first.
    """

    def __init__(self, vocabulary: int, in_chans: int, dim: int):
        super().__init__()
        self.vocabulary = vocabulary
        self.proj = nn.Linear(in_chans, dim)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            x = x.to(parameter_type(self.proj, torch.float32)) * (2 / (self.vocabulary - 1)) - 1
        return self.proj(x.flatten(2).transpose(1, 2))


EMBEDDINGS: dict[str, type[nn.Module]] = {"table": TokenEmbedding, "linear": ValueEmbedding}


def sincos_positions(grid: tuple[int, int], dim: int, prefix: int) -> Tensor:
    """Return fixed positions (1, prefix + H·W, dim): sines and cosines of row and column, zeros for prefix tokens.

    Raises:
        SettingError: 4 does not divide `dim`.
    """
    if dim % 4:
        raise SettingError(f"`model.pos_embed`=sincos2d needs a width that 4 divides, and `model.embed_dim`={dim}.")
    return nn.functional.pad(build_sincos2d_pos_embed(list(grid), dim), (0, 0, prefix, 0))[None]
