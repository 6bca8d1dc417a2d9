import pytest
import torch

from soft.attention.gaussian import gaussian_gram, gaussian_kernel


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_kernel_is_the_exponential_of_explicit_squared_distances(dtype, tolerance):
    x, y = torch.randn(2, 3, 50, 8, dtype=dtype), torch.randn(2, 3, 7, 8, dtype=dtype)
    explicit = torch.exp(-0.5 * (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1))
    torch.testing.assert_close(gaussian_kernel(x, y), explicit, rtol=tolerance, atol=0)


def test_kernel_has_the_gradient_of_its_definition():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_kernel, (x, y))


def test_a_token_is_at_distance_zero_of_itself_however_large_it_is():
    """|Q| of 100, scaled as in attention: ‖x‖² is then near 6e4, of which float32 keeps a few thousandths."""
    x = 100 / 32**0.25 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(x, x)
    assert torch.isfinite(kernel).all()
    torch.testing.assert_close(kernel.diagonal(), torch.ones(16), rtol=0.05, atol=0)


def test_the_gram_form_is_the_kernel_of_both_roles():
    x = torch.randn(2, 3, 7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 7, 7, dtype=torch.float64)  # not symmetric
    results = []
    for a in (gaussian_gram(x), gaussian_kernel(x, x)):
        results.append((a, *torch.autograd.grad((a * weight).sum(), x)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
