import pytest
import torch

from soft.attention import reference
from soft.attention.gaussian import gaussian_kernel


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_kernel_is_the_reference(dtype, tolerance):
    x, y = torch.randn(2, 3, 50, 8, dtype=dtype), torch.randn(2, 3, 7, 8, dtype=dtype)
    torch.testing.assert_close(gaussian_kernel(x, y), reference.gaussian_kernel(x, y), rtol=tolerance, atol=0)


def test_kernel_has_the_gradient_of_its_definition():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_kernel, (x, y))


def test_a_token_is_at_distance_zero_of_itself_however_large_it_is():
    """Queries up to 100 have ‖x‖² near 6e4 once they are scaled, of which float32 keeps a few thousandths."""
    x = 100 / 32**0.25 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(x, x)
    assert torch.isfinite(kernel).all()
    torch.testing.assert_close(kernel.diagonal(), torch.ones(16), rtol=0.05, atol=0)
