"""Inverse of the m×m kernel matrix A between landmarks (paper, Algorithm 2).

Shapes: A is (..., m, m), symmetric positive semi-definite with a unit diagonal; every function works per matrix, so one
image's result never depends on its neighbours in the batch.
"""

import torch
from torch import Tensor

from soft.attention.eager import is_eager, may_read

RIDGE = 0.01
INVERSES = ("newton", "cholesky", "svd")


def newton_inverse(a: Tensor, v0: Tensor, iters: int, most: float = 2.0) -> Tensor:
    """`iters` Newton-Raphson steps V ← 2V − V·A·V from `v0` (Algorithm 2).

    I − A·V squares at every step, so `iters` is a spectral filter rather than a tolerance: eigenvalues of A far below
    the largest are left un-inverted, and the truncated iterate is the model's definition. On a CPU the steps end early
    once all that remain could change nothing but rounding, and start from the best multiple of `v0` for a matrix that
    they are certain to invert; elsewhere looking would cost more than it saves.

    Args:
        a, v0: (..., m, m); `v0` is a multiple of A, or commutes with it.
        most: what no eigenvalue of A·V0 exceeds.
    """
    m = a.shape[-1]
    a, v = a.reshape(-1, m, m), v0.reshape(-1, m, m)
    if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
        if may_read(a) and not (torch.is_grad_enabled() and (a.requires_grad or v.requires_grad)):
            return _iterate(a, v, iters, most).view(v0.shape)
    for _ in range(iters):
        v = torch.baddbmm(v, v, torch.bmm(a, v), beta=2, alpha=-1)
    return v.reshape(v0.shape)


def _iterate(a: Tensor, v: Tensor, iters: int, most: float) -> Tensor:
    """The steps that count, on (n, m, m), in memory that is taken once."""
    negative, m = -a, a.shape[-1]
    residual, following, spare = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
    diagonal = residual.diagonal(dim1=-2, dim2=-1)
    # Norms below are exact to about m roundings, far below the residual that still matters, √eps.
    negligible = torch.finfo(a.dtype).eps ** 0.5 / 4
    look = 3  # the residual is large in the first steps from the usual start
    for step in range(iters):
        # V(2I − A·V), without a pass over memory of its own for 2V.
        torch.bmm(negative, v, out=residual)
        if step == 0 and most < 2:
            scale = _best_multiple(residual, iters, most, negligible**2)
            v = v * scale
            residual.mul_(scale)
        last = False
        if step == look:
            # This step squares I − A·V, and so at least its norm.
            diagonal.add_(1.0)
            norm = float(torch.linalg.vector_norm(residual, dim=(1, 2)).max())
            last = norm <= negligible
            # With all eigenvalues alike it falls the fastest.
            look, norm = look + 1, norm / m**0.5
            while norm < 1 and (norm := norm * norm) * m**0.5 > negligible:
                look += 1
            diagonal.add_(1.0)
        else:
            diagonal.add_(2.0)
        torch.bmm(v, residual, out=following)
        v, following, spare = following, spare, following
        if last:
            break
    return v


def _best_multiple(negative_product: Tensor, iters: int, most: float, negligible: float) -> Tensor:
    """The factor of V0 that takes A·V0 the nearest to I where `iters` steps from V0 itself are certain to invert A.

    Of each matrix of −A·V0, (n, m, m) -> (n, 1, 1); 1 where they are not certain to leave at most `negligible` of
    I − A·V, and so where the truncated iterate is not the inverse.
    """
    trace = negative_product.diagonal(dim1=-2, dim2=-1).sum(-1).neg_()
    squares = torch.linalg.vector_norm(negative_product, dim=(1, 2)).square_()
    factor = trace / squares
    # ‖I − factor·A·V0‖ bounds how far the least eigenvalue of factor·A·V0 is from 1.
    distance = (negative_product.shape[-1] - trace * factor).clamp_min_(0).sqrt_()
    farthest = (1 - (1 - distance) / factor).clamp_min_(most - 1)
    certain = farthest <= negligible ** (0.5**iters)
    return torch.where(certain, factor, 1.0)[:, None, None]


def plain_start(a: Tensor) -> Tensor:
    """Step size α = 0.9 · 2 / (largest row sum of A)², (..., 1, 1); A without its ridge."""
    return 1.8 / a.sum(-1).amax(-1).square()[..., None, None]


def plain_most(ridge: float = RIDGE) -> float:
    """What no eigenvalue of A·αA exceeds with `plain_start`'s α and the ridge in A.

    The largest row sum bounds the eigenvalues of A without its ridge; its unit diagonal makes it at least 1.
    """
    return 1.8 * (1 + ridge) ** 2


def normalised_start(a: Tensor) -> Tensor:
    """Step size of the normalised variant, (..., 1, 1).

    α = 2 / (largest row sum)², halved up to ten times while ‖I − α·A²‖₁ > 1.01. The released code takes α over the
    whole batch; here each matrix has its own.
    """
    alpha = 2 / a.sum(-1).amax(-1).square()[..., None, None]
    squared = a @ a
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(10):
        too_long = (eye - alpha * squared).abs().sum(-2).amax(-1)[..., None, None] > 1.01
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            if may_read(a) and not too_long.any():
                break
        alpha = torch.where(too_long, alpha / 2, alpha)
    return alpha


def add_ridge(a: Tensor, normalised: bool, ridge: float = RIDGE) -> Tensor:
    """The matrix that is inverted: A + 0.01·I in the plain variant, A itself in the normalised one."""
    return a if normalised else a + ridge * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def kernel_inverse(a: Tensor, method: str = "newton", iters: int = 20, normalised: bool = False) -> Tensor:
    """A⁺ for the plain variant, D^(−½)·A⁺·D^(−½) with D = diag(row sums of A) for the normalised one.

    Args:
        a: kernel between landmarks, (..., m, m), float32 or float64.
        method: `newton` (exactly `iters` steps), `cholesky`, or `svd` (the pseudo-inverse, by the symmetric
            eigendecomposition).
        iters: Newton-Raphson steps T; read by `newton` only.
        normalised: the IJCV variant, which has no ridge and its own step size.

    The gradient with respect to A is that of the exact inverse, −Yᵀ·(∂L/∂Y)·Yᵀ with Y = A⁺, whatever the method: it
    does not run back through the iteration.
    """
    ridged = add_ridge(a, normalised)
    fixed = ridged.detach()
    if method == "newton":
        alpha = normalised_start(fixed) if normalised else plain_start(a.detach())
        y = newton_inverse(fixed, alpha * fixed, iters, most=2.0 if normalised else plain_most())
    else:
        # Without a ridge, landmarks that coincide leave A singular, and its rounding makes eigenvalues of either sign,
        # up to about ‖Q̃‖²·m·eps. (TorchScript has no torch.finfo.)
        rounding = 100 * a.shape[-1] * (2.2e-16 if a.dtype == torch.float64 else 1.2e-7) if normalised else 0.0
        if method == "cholesky":
            y = torch.cholesky_inverse(torch.linalg.cholesky(add_ridge(fixed, False, rounding)))
        else:
            y = torch.linalg.pinv(fixed, atol=rounding, hermitian=True)
    y = _with_exact_gradient(y, ridged)
    if normalised:
        d = a.sum(-1).rsqrt()
        y = d.unsqueeze(-1) * y * d.unsqueeze(-2)
    return y


def _with_exact_gradient(y: Tensor, a: Tensor) -> Tensor:
    """Y as a function of A whose gradient is that of A⁻¹ at Y."""
    if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
        if is_eager() and not a.requires_grad:
            return y
    # The second term is exactly zero and carries the gradient; this can be scripted, traced, exported and compiled.
    return y + y @ (a.detach() - a) @ y


def inverse_residual(a: Tensor, method: str = "newton", iters: int = 20, normalised: bool = False) -> Tensor:
    """‖I − A·A⁺‖_F / √m per matrix, (...): 0 for a converged inverse, near 1 where nothing was inverted.

    A is the matrix that is really inverted (with the ridge in the plain variant); the outer D^(−½) is left out.
    """
    a = a.detach()
    y = kernel_inverse(a, method, iters, normalised)
    if normalised:
        d = a.sum(-1).sqrt()
        y = d.unsqueeze(-1) * y * d.unsqueeze(-2)
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return (eye - add_ridge(a, normalised) @ y).flatten(-2).norm(dim=-1) / a.shape[-1] ** 0.5
