"""What the flat encoder's classifier reads: one token, or the mean of all."""

import torch
from torch import Tensor

from soft.errors import SettingError
from soft.models.embeddings import ASK, PADDING
from soft.settings import check_choice

POOLS = ("ask", "token", "avg")


def check_pool(global_pool: str, layout: str, embedding: str) -> None:
    """Refuse a pooling that is not known, or that does not fit the layout and the embedding of a `SoftEncoder`."""
    check_choice("`model.global_pool`", global_pool, POOLS)
    if global_pool == "token" and layout != "sequence":
        raise SettingError(
            "`model.global_pool`=token needs `model.layout`=sequence, because a class token has no place in a grid."
        )
    if global_pool == "ask" and embedding != "table":
        raise SettingError(
            "`model.global_pool`=ask reads where the input has a certain token id, and `model.embedding`=linear has no "
            "token ids; choose `model.global_pool`=avg."
        )


def pool_tokens(x: Tensor, global_pool: str, ids: Tensor | None) -> Tensor:
    """Return what the classifier reads of tokens (B, prefix + N, C): (B, C).

    Args:
        x: tokens of the last block.
        global_pool: `token` (the first one), `ask` (that of the first position whose last token id is 1) or `avg` (the
            mean; positions whose token ids are all 0 are padding and left out).
        ids: token ids (B, fields, N); None where the input has none, as images.

    Raises:
        SettingError: `ask` without token ids.
    """
    if global_pool == "token":
        return x[:, 0]
    if global_pool == "ask":
        if ids is None:
            raise SettingError("global_pool=ask reads at the position that the input marks; pass the input as source.")
        asks = (ids[:, -1] == ASK).int().argmax(1)
        return x[torch.arange(x.shape[0], device=x.device), asks]
    if ids is None:
        return x.mean(1)
    kept = (ids != PADDING).any(1).unsqueeze(-1).to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)
