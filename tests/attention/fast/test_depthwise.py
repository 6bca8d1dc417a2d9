import pytest
import torch

from soft.attention.fast.depthwise import fast_convolve, filter_gradient
from soft.attention.local import convolve, convolve_tokens


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 11])
@pytest.mark.parametrize("grid", [(11, 10), (3, 14)], ids=str)
def test_filter_gradients_are_those_of_autograd(size, grid):
    torch.manual_seed(0)
    tokens, grad = torch.randn(2, 2, grid[0] * grid[1], 3, 4, dtype=torch.float64)
    filters = torch.randn(3, 1, size, size, dtype=torch.float64, requires_grad=True)
    convolve_tokens(tokens, filters, grid).backward(grad)
    torch.testing.assert_close(filter_gradient(tokens, grad, size, grid), filters.grad)


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("expanded", [False, True], ids=["any gradient", "the gradient of a sum"])
def test_output_and_gradients_are_those_of_the_recorded_form(size, expanded):
    torch.manual_seed(0)
    leaves = [
        torch.randn(2, 3, 30, 4, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 1, size, size, dtype=torch.float64, requires_grad=True),
    ]
    expected, found = convolve(*leaves, (5, 6)), fast_convolve(*leaves, (5, 6))
    torch.testing.assert_close(found, expected)
    weight = torch.ones((), dtype=torch.float64).expand_as(found) if expanded else torch.randn_like(found)
    gradients = [torch.autograd.grad(out, leaves, weight) for out in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("frozen", [0, 1], ids=["V", "filters"])
def test_what_is_frozen_gets_no_gradient(frozen):
    leaves = [torch.randn(1, 2, 16, 4, requires_grad=True), torch.randn(2, 1, 3, 3, requires_grad=True)]
    leaves[frozen].requires_grad_(False)
    fast_convolve(*leaves, (4, 4)).sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [frozen == 0, frozen == 1]
