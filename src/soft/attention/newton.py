"""Inverse of the m×m kernel matrix A between landmarks (paper, Algorithm 2).

A is (..., m, m), symmetric positive semi-definite with a unit diagonal. Every function works on each matrix by itself,
so that an image's result never depends on its neighbours in the batch. Compilers, exporters and TorchScript can record
all of this; eager PyTorch runs `soft.attention.fast.early_stop`.
"""

import torch
from torch import Tensor

RIDGE = 0.01
INVERSES = ("newton", "cholesky", "svd")


def kernel_inverse(a: Tensor, method: str = "newton", iters: int = 20, normalised: bool = False) -> Tensor:
    """Return A⁺ for the plain variant, D^(−½)·A⁺·D^(−½) with D = diag(row sums of A) for the normalised one.

    The gradient with respect to A is that of the exact inverse, −Yᵀ·(∂L/∂Y)·Yᵀ with Y = A⁺, whatever the method: it
    does not run back through the iteration.

    Args:
        a: kernel between landmarks, (..., m, m), float32 or float64.
        method: `newton` (exactly `iters` steps), `cholesky`, or `svd` (the pseudo-inverse, by the symmetric
            eigendecomposition).
        iters: Newton-Raphson steps T; `newton` alone reads it.
        normalised: the IJCV variant, which has no ridge and a step size of its own.
    """
    ridged = add_ridge(a, normalised)
    fixed = ridged.detach()
    if method == "newton":
        alpha = normalised_alpha(fixed) if normalised else plain_alpha(a.detach())
        y = newton_inverse(fixed, alpha * fixed, iters)
    else:
        y = direct_inverse(fixed, method, normalised)
    # The second term is exactly zero and carries the gradient. An autograd function could not be scripted.
    y = y + y @ (fixed - ridged) @ y
    return scale_by_row_sums(y, a) if normalised else y


def newton_inverse(a: Tensor, v0: Tensor, iters: int) -> Tensor:
    """Return the result of `iters` Newton-Raphson steps V ← 2V − V·A·V from `v0` (Algorithm 2).

    I − A·V squares at every step, so `iters` is a spectral filter rather than a tolerance: eigenvalues of A far below
    the largest are left un-inverted, and the truncated iterate is the model's definition.

    Args:
        a, v0: (..., m, m); `v0` is a multiple of A, or commutes with it.
        iters: number of steps T.
    """
    m = a.shape[-1]
    a, v = a.reshape(-1, m, m), v0.reshape(-1, m, m)
    for _ in range(iters):
        v = torch.baddbmm(v, v, torch.bmm(a, v), beta=2, alpha=-1)
    return v.reshape(v0.shape)


def plain_alpha(a: Tensor) -> Tensor:
    """Return the step size α = 0.9 · 2 / (largest row sum of A)², (..., 1, 1); A is without its ridge."""
    return 1.8 / a.sum(-1).amax(-1).square()[..., None, None]


def normalised_alpha(a: Tensor, may_stop: bool = False) -> Tensor:
    """Return the step size of the normalised variant, (..., 1, 1).

    α = 2 / (largest row sum)², halved up to ten times while ‖I − α·A²‖₁ > 1.01. The released code takes α over the
    whole batch; here each matrix has its own.

    A is symmetric and has no negative entry, and so has A². With d and s the diagonal and the column sums of A², that
    norm is therefore the largest |1 − α·d| + α·(s − d), and neither A² nor any other m×m matrix is computed.

    Args:
        a: (..., m, m).
        may_stop: end the search once no matrix needs a smaller step. Finding that out reads a value, for which a GPU
            would have to be waited for.
    """
    sums = a.sum(-1)
    alpha = 2 / sums.amax(-1, keepdim=True).square()
    diagonal = a.square().sum(-1)
    others = (a @ sums.unsqueeze(-1)).squeeze(-1) - diagonal
    for _ in range(10):
        too_long = ((1 - alpha * diagonal).abs() + alpha * others).amax(-1, keepdim=True) > 1.01
        if may_stop and not bool(too_long.any()):
            break
        alpha = torch.where(too_long, alpha / 2, alpha)
    return alpha.unsqueeze(-1)


def add_ridge(a: Tensor, normalised: bool) -> Tensor:
    """Return the matrix that is inverted: A + 0.01·I in the plain variant, A itself in the normalised one."""
    return a if normalised else _add_to_diagonal(a)


def _add_to_diagonal(a: Tensor, value: float = RIDGE) -> Tensor:
    return a + value * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def direct_inverse(ridged: Tensor, method: str, normalised: bool) -> Tensor:
    """Return the inverse of `add_ridge`'s matrix by `cholesky` or `svd`, (..., m, m).

    Landmarks that coincide leave A singular without a ridge, and its rounding makes eigenvalues of either sign, up to
    about ‖Q̃‖²·m·eps. In the normalised variant `cholesky` therefore adds 100·m·eps to the diagonal, and `svd` leaves
    out eigenvalues below that.

    Args:
        ridged: detached; the result carries no gradient of its own.
        method: `cholesky` or `svd`.
        normalised: whether the matrix is that of the normalised variant.
    """
    # TorchScript has no torch.finfo.
    eps = 2.2e-16 if ridged.dtype == torch.float64 else 1.2e-7
    rounding = 100 * ridged.shape[-1] * eps if normalised else 0.0
    if method == "cholesky":
        return torch.cholesky_inverse(torch.linalg.cholesky(_add_to_diagonal(ridged, rounding)))
    return torch.linalg.pinv(ridged, atol=rounding, hermitian=True)


def scale_by_row_sums(y: Tensor, a: Tensor) -> Tensor:
    """Return D^(−½)·Y·D^(−½) with D = diag(row sums of A), (..., m, m)."""
    d = a.sum(-1).rsqrt()
    return d.unsqueeze(-1) * y * d.unsqueeze(-2)


def inverse_residual(a: Tensor, inverse: Tensor, normalised: bool = False) -> Tensor:
    """Return ‖I − A·A⁺‖_F / √m of each matrix, (...): 0 for a converged inverse, near 1 where nothing was inverted.

    A is the matrix that is really inverted, with the ridge in the plain variant; the outer D^(−½) are taken away.

    Args:
        a: kernel between landmarks, (..., m, m).
        inverse: what `kernel_inverse` gives for it.
        normalised: whether that is the normalised variant.
    """
    if normalised:
        d = a.sum(-1).sqrt()
        inverse = d.unsqueeze(-1) * inverse * d.unsqueeze(-2)
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return (eye - add_ridge(a, normalised) @ inverse).flatten(-2).norm(dim=-1) / a.shape[-1] ** 0.5
