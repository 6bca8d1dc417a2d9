import pytest
import torch

from soft.attention.depthwise import convolve, filter_gradient


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 11])
@pytest.mark.parametrize("grid", [(11, 10), (3, 14)], ids=str)
def test_filter_gradients_are_those_of_autograd(size, grid):
    torch.manual_seed(0)
    tokens, grad = torch.randn(2, 2, grid[0] * grid[1], 3, 4, dtype=torch.float64)
    filters = torch.randn(3, 1, size, size, dtype=torch.float64, requires_grad=True)
    convolve(tokens, filters, grid).backward(grad)
    torch.testing.assert_close(filter_gradient(tokens, grad, size, grid), filters.grad)


def test_each_head_has_a_filter_of_its_own():
    tokens = torch.randn(1, 12, 2, 3)
    filters = torch.zeros(2, 1, 3, 3)
    filters[0, 0, 1, 1] = 1  # the pixel itself
    filters[1, 0, 1, 2] = 1  # the pixel to its right
    out = convolve(tokens, filters, (3, 4)).view(3, 4, 2, 3)
    image = tokens.view(3, 4, 2, 3)
    assert torch.equal(out[:, :, 0], image[:, :, 0])
    assert torch.equal(out[:, :-1, 1], image[:, 1:, 1])
    assert not out[:, -1, 1].any()
