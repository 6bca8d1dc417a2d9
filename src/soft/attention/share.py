"""How much of an attention's output tells tokens apart: the share that shows whether the attention is at work."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def attention_share(attention: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return ‖G − mean of G over the tokens‖ / ‖X‖ of each image, (B,).

    G is the global term, P·A⁺·(Pᵀ·V) in SOFT, and X = G + L with the local term L is what the output map gets. The
    norms run over all heads, tokens and channels. What G adds to every token alike is taken out of the numerator
    alone, so the share is near 0 where G is small beside L, and also where G is large and the same for all tokens. It
    is near 1 where nearly all of X comes from G and differs between tokens. It passes 1 only where L cancels a part of
    G, is 0 where X is 0, and NaN where X is not finite.

    Args:
        attention: a module with `branches`, see `soft.attention`.
        x: its input, (B, N, C).
        grid: height H and width W in tokens, N = H·W.
    """
    global_term, local_term = attention.branches(x, grid)
    whole = (global_term + local_term).flatten(1).norm(dim=1)
    differing = (global_term - global_term.mean(-2, keepdim=True)).flatten(1).norm(dim=1)
    return torch.where(whole == 0, 0.0, differing / whole)
