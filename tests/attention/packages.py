"""Comparison of an attention with another library's on the same weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.golden import relative_error

PRECISE = {torch.float64: 1e-12, torch.float32: 1e-5}


def errors(
    ours: nn.Module, theirs: nn.Module, names: Mapping[str, tuple[str, int]], x: Tensor, grid: tuple[int, int]
) -> dict[str, float]:
    """Return the relative errors of the output and of every gradient.

    Args:
        ours, theirs: the two attentions; theirs gets our weights and is called with tokens alone.
        names: for every parameter of theirs, the name of ours and which third of its rows (0 to 2), or -1 for all rows.
        x: tokens (B, N, C) on `grid`.
    """
    assert set(names) == {name for name, _ in theirs.named_parameters()}
    mine, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    with torch.no_grad():
        for name, (our_name, third) in names.items():
            other[name].copy_(_part(mine[our_name], third))
    x, x_other = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = ours(x, grid)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    # oneDNN's gradient of nystrom-attention's convolution is wrong in float32, see `NystromAttention.convolve`.
    with torch.backends.mkldnn.flags(enabled=False):
        expected = theirs(x_other)
        (expected * weight).sum().backward()
    found = {"output": relative_error(out, expected), "input": relative_error(x.grad, x_other.grad)}
    for place in set(names.values()):
        gradient = sum(other[name].grad for name in names if names[name] == place)
        found[str(place)] = relative_error(_part(mine[place[0]].grad, place[1]), gradient)
    return found


def _part(parameter: Tensor, third: int) -> Tensor:
    return parameter if third < 0 else parameter.chunk(3)[third]
