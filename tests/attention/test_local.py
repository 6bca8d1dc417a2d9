import pytest
import torch

from soft.attention import reference
from soft.attention.local import convolve, head_filters
from tests.golden import relative_error


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("grid", [(11, 10), (3, 14)], ids=str)
def test_convolution_is_the_reference(size, grid):
    torch.manual_seed(0)
    v = torch.randn(2, 3, grid[0] * grid[1], 4, dtype=torch.float64)
    filters = head_filters(3, size).double().weight
    assert relative_error(convolve(v, filters, grid), reference.convolve(v, filters, grid)) < 1e-12


def test_each_head_has_a_filter_of_its_own():
    v = torch.randn(1, 2, 12, 3)
    filters = torch.zeros(2, 1, 3, 3)
    filters[0, 0, 1, 1] = 1  # the pixel itself
    filters[1, 0, 1, 2] = 1  # the pixel to its right
    out = convolve(v, filters, (3, 4)).view(2, 3, 4, 3)
    image = v.view(2, 3, 4, 3)
    assert torch.equal(out[0], image[0])
    assert torch.equal(out[1, :, :-1], image[1, :, 1:])
    assert not out[1, :, -1].any()
