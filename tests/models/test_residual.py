"""The fused dropout, sum and LayerNorm against the composed one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from soft.models.residual import add_and_normalise


def tokens(count: int) -> torch.Tensor:
    return torch.randn(3, 5, count, dtype=torch.float64).requires_grad_()


def dropped_by(drop: nn.Dropout, norm: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What each element of `y` was multiplied by, read off its gradient beside that of `x`."""
    torch.manual_seed(1)
    out = add_and_normalise(norm, drop, x, y)
    by_x, by_y = torch.autograd.grad(out, (x, y), torch.randn(out.shape, dtype=out.dtype))
    return by_y / by_x


def test_it_is_the_composed_form_for_what_was_kept():
    torch.manual_seed(0)
    norm, drop, x, y = nn.LayerNorm(8).double(), nn.Dropout(0.25), tokens(8), tokens(8)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    mask = dropped_by(drop, norm, x, y).round(decimals=9)
    assert set(mask.unique().tolist()) == {0.0, round(4 / 3, 9)}
    inputs = (x, y, *norm.parameters())
    cotangent = torch.randn(3, 5, 8, dtype=torch.float64)
    results = []
    for fused in (True, False):
        torch.manual_seed(1)
        out = add_and_normalise(norm, drop, x, y) if fused else F.layer_norm(x + y * mask, [8], *norm.parameters())
        results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_are_dropped_independently_at_the_rate(rate):
    torch.manual_seed(0)
    size = (64, 100, 50)
    norm, x, y = nn.LayerNorm(50), torch.randn(size, requires_grad=True), torch.randn(size, requires_grad=True)
    kept = (dropped_by(nn.Dropout(rate), norm, x, y) != 0).float()
    assert kept.mean().item() == pytest.approx(1 - rate, abs=0.005)
    for axis in range(3):  # neighbours agree as often as independent draws do
        agreement = (kept.narrow(axis, 1, size[axis] - 1) == kept.narrow(axis, 0, size[axis] - 1)).float().mean().item()
        assert agreement == pytest.approx(rate**2 + (1 - rate) ** 2, abs=0.01)


def test_one_byte_an_element_is_kept_of_the_dropout():
    sizes = []
    x, y = tokens(8), tokens(8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
        add_and_normalise(nn.LayerNorm(8).double(), nn.Dropout(0.5), x, y)
    elements = x.numel()
    assert sorted(sizes, reverse=True)[:2] == [8 * elements, elements]


def test_nothing_is_dropped_in_evaluation_or_at_a_rate_of_zero():
    norm, x, y = nn.LayerNorm(8).double(), tokens(8), tokens(8)
    for drop in (nn.Dropout(0.0), nn.Dropout(0.5).eval()):
        torch.testing.assert_close(add_and_normalise(norm, drop, x, y), norm(x + y), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_its_types(dtype):
    x, y = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 4, 8).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = add_and_normalise(nn.LayerNorm(8), nn.Dropout(0.5), x, y)
        expected = nn.LayerNorm(8)(x + y).dtype
    assert out.dtype == expected
    out.float().sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (torch.float32, dtype)


class NoDrop(nn.Dropout):
    def forward(self, x):
        return x


@pytest.mark.parametrize("bias", [True, False])
def test_other_modules_are_called(bias):
    norm, x, y = nn.LayerNorm(8, bias=bias).double(), tokens(8), tokens(8)
    assert torch.equal(add_and_normalise(norm, NoDrop(0.5), x, y), norm(x + y))
    add_and_normalise(norm, nn.Dropout(0.5), x, y).sum().backward()
    assert x.grad is not None
