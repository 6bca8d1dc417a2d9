import pytest
import torch

from soft.attention import reference
from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import (
    INVERSES,
    RIDGE,
    add_ridge,
    inverse_residual,
    kernel_inverse,
    newton_inverse,
    normalised_alpha,
    plain_alpha,
)
from tests.golden import golden, relative_error

VARIANTS = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])


def kernel(spread: float, m: int = 12, dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = (3, 2)):
    """Kernels (*batch, m, m) between landmarks that lie `spread` apart: the closer, the worse the condition."""
    landmarks = spread * torch.randn(*batch, m, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return gaussian_kernel(landmarks, landmarks).to(dtype)


@pytest.mark.parametrize("iters", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("case", ["newton_well", "newton_ill"])
def test_iterates_of_the_released_code(case, iters):
    a = golden(f"{case}.A")
    assert relative_error(kernel_inverse(a, iters=iters), golden(f"{case}.T{iters}")) < 2e-7


@VARIANTS
@pytest.mark.parametrize("spread", [1.0, 0.1])
@pytest.mark.parametrize("iters", [1, 4, 20])
def test_newton_is_a_spectral_filter(normalised, spread, iters):
    """On an eigenvalue a of A the iterate is (1 − (1 − α·a²)^(2^T)) / a."""
    a = kernel(spread)
    alpha = normalised_alpha(a) if normalised else plain_alpha(a)
    inverted = add_ridge(a, normalised)
    values, vectors = torch.linalg.eigh(inverted)
    filtered = (1 - (1 - alpha[..., 0] * values**2) ** (2**iters)) / values
    expected = vectors @ torch.diag_embed(filtered) @ vectors.mT
    assert relative_error(newton_inverse(inverted, alpha * inverted, iters), expected) < 1e-7
    if normalised:
        scale = a.sum(-1).rsqrt()
        expected = scale[..., :, None] * expected * scale[..., None, :]
    assert relative_error(kernel_inverse(a, iters=iters, normalised=normalised), expected) < 1e-7


def test_plain_step_size_is_taken_before_the_ridge():
    a = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert plain_alpha(a).item() == pytest.approx(0.9 * 2 / 1.5**2)
    torch.testing.assert_close(add_ridge(a, False), a + RIDGE * torch.eye(2))
    assert add_ridge(a, True) is a


def test_normalised_step_size_is_halved_until_the_iteration_contracts():
    """Where landmarks coincide, the eigenvalues of A are m and 0, and α starts at the edge of divergence, 2 / m²."""
    a = torch.ones(5, 5, dtype=torch.float64)
    steps = [2 / 25 / 2**k for k in range(11)]
    norms = [(torch.eye(5) - step * a @ a).abs().sum(0).max().item() for step in steps]
    expected = next((step for step, norm in zip(steps, norms, strict=True) if norm <= 1.01), steps[-1])
    assert normalised_alpha(a).item() == normalised_alpha(a, may_stop=True).item() == pytest.approx(expected)
    assert expected < steps[0]


@VARIANTS
@pytest.mark.parametrize("spread", [2.0, 0.3, 0.01])
@pytest.mark.parametrize("iters", [1, 5, 20])
def test_newton_and_its_gradient_are_the_reference(normalised, spread, iters):
    found = []
    for inverse in (kernel_inverse, reference.kernel_inverse):
        a = kernel(spread).requires_grad_()
        y = inverse(a, iters=iters, normalised=normalised)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
        found.append((y, a.grad))
    assert max(relative_error(ours, theirs) for ours, theirs in zip(*found, strict=True)) < 1e-9


@VARIANTS
@pytest.mark.parametrize("method", INVERSES)
def test_all_methods_agree_where_newton_has_converged(normalised, method):
    a = kernel(2.0)
    exact = torch.linalg.inv(add_ridge(a, normalised))
    if normalised:
        scale = a.sum(-1).rsqrt()
        exact = scale[..., :, None] * exact * scale[..., None, :]
    assert relative_error(kernel_inverse(a, method, iters=30, normalised=normalised), exact) < 1e-9


@VARIANTS
@pytest.mark.parametrize("method", INVERSES)
def test_gradient_is_the_derivative_where_the_inverse_is_exact(normalised, method):
    """The check goes through the landmarks, since A has to stay symmetric; 30 steps of newton have converged here."""

    def inverse(landmarks):
        return kernel_inverse(gaussian_kernel(landmarks, landmarks), method, iters=30, normalised=normalised)

    landmarks = 2 * torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(inverse, landmarks.requires_grad_())


def test_gradient_of_a_truncated_inverse_is_still_the_analytic_one():
    """It is −Yᵀ·G·Yᵀ with the iterate itself as Y, which is not the derivative of the iteration."""
    a = kernel(0.3).requires_grad_()
    y = kernel_inverse(a, iters=3)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y.backward(g)
    torch.testing.assert_close(a.grad, -y.mT @ g @ y.mT, rtol=1e-12, atol=1e-12)

    b = a.detach().clone().requires_grad_()
    ridged = add_ridge(b, False)
    newton_inverse(ridged, plain_alpha(b.detach()) * ridged, 3).backward(g)
    assert relative_error(b.grad, a.grad) > 0.1


@VARIANTS
@pytest.mark.parametrize("method", INVERSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3, 1e-2])
def test_coinciding_landmarks_give_finite_numbers(normalised, method, dtype, spread):
    landmarks = 1 + spread * torch.randn(4, 49, 32, generator=torch.Generator().manual_seed(4))
    landmarks = landmarks.to(dtype).requires_grad_()
    y = kernel_inverse(gaussian_kernel(landmarks, landmarks), method, normalised=normalised)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(landmarks.grad).all()


@VARIANTS
def test_matrices_do_not_depend_on_each_other(normalised):
    """Two steps have not converged, so that the step size still shows."""
    together = torch.stack([kernel(2.0, batch=()), kernel(0.01, batch=())])
    alone = kernel_inverse(together[:1], iters=2, normalised=normalised)
    assert relative_error(kernel_inverse(together, iters=2, normalised=normalised)[:1], alone) < 1e-12


@VARIANTS
def test_residual_is_zero_when_converged_and_near_one_when_nothing_is_inverted(normalised):
    a, ones = kernel(2.0), torch.ones(4, 4, dtype=torch.float64)
    assert inverse_residual(a, kernel_inverse(a, iters=30, normalised=normalised), normalised).max() < 1e-9
    assert inverse_residual(ones, kernel_inverse(ones, iters=1, normalised=normalised), normalised).item() > 0.8


def test_residual_has_the_norm_that_it_says():
    a = kernel(0.5)
    y = kernel_inverse(a, iters=4)
    error = torch.eye(12) - add_ridge(a, False) @ y
    torch.testing.assert_close(inverse_residual(a, y), error.flatten(-2).norm(dim=-1) / 12**0.5)
