"""Inverse of the m×m kernel matrix A between landmarks (paper, Algorithm 2).

Shapes: A is (..., m, m), symmetric positive semi-definite with a unit diagonal; every function works per matrix, so one
image's result never depends on its neighbours in the batch.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from soft.attention.eager import is_eager, may_read

RIDGE = 0.01
INVERSES = ("newton", "cholesky", "svd")


def newton_inverse(a: Tensor, v0: Tensor, iters: int) -> Tensor:
    """`iters` Newton-Raphson steps V ← 2V − V·A·V from `v0` (Algorithm 2).

    I − A·V squares at every step, so `iters` is a spectral filter rather than a tolerance: eigenvalues of A far below
    the largest are left un-inverted, and the truncated iterate is the model's definition. On a CPU the steps end early
    once all that remain could change nothing but rounding; elsewhere looking would cost more than it saves.
    """
    m = a.shape[-1]
    a, v = a.reshape(-1, m, m), v0.reshape(-1, m, m)
    if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
        if may_read(a) and not (torch.is_grad_enabled() and (a.requires_grad or v.requires_grad)):
            return _iterate(a, v, iters).view(v0.shape)
    for _ in range(iters):
        v = torch.baddbmm(v, v, torch.bmm(a, v), beta=2, alpha=-1)
    return v.reshape(v0.shape)


def _iterate(a: Tensor, v: Tensor, iters: int) -> Tensor:
    """The steps that count, on (n, m, m), in memory that is taken once."""
    negative, m = -a, a.shape[-1]
    residual, following, spare = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
    diagonal = residual.diagonal(dim1=-2, dim2=-1)
    # The trace below is exact to about m roundings, far below the residual that still matters, √eps.
    negligible = torch.finfo(a.dtype).eps ** 0.5 / 4
    look = 3  # the trace is well above zero in the first steps from the usual start
    for step in range(iters):
        # V(2I − A·V), without a pass over memory of its own for 2V.
        torch.bmm(negative, v, out=residual)
        diagonal.add_(2.0)
        torch.bmm(v, residual, out=following)
        v, following, spare = following, spare, following
        if step == look:
            # I − A·V has no negative eigenvalue after the first step, so its trace bounds the largest, which this step
            # has squared, as the next ones will.
            left = float(diagonal.sum(-1).max()) - m
            if left <= negligible:
                break
            look += 1
            while left < 1 and (left := left * left) > negligible:
                look += 1
    return v


def plain_start(a: Tensor) -> Tensor:
    """Step size α = 0.9 · 2 / (largest row sum of A)², (..., 1, 1); A without its ridge."""
    return 1.8 / a.sum(-1).amax(-1).square()[..., None, None]


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
        y = newton_inverse(fixed, alpha * fixed, iters)
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
        if is_eager():
            return _ExactGradient.apply(y, a)
    # The second term is exactly zero and carries the gradient; this can be scripted, traced, exported and compiled.
    return y + y @ (a.detach() - a) @ y


class _ExactGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, y: Tensor, a: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        ctx.shape = y.shape
        return y.view_as(y)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor]:
        (y,) = ctx.saved_tensors
        m = y.shape[-1]
        y, grad = y.reshape(-1, m, m), grad.reshape(-1, m, m)
        product = torch.bmm(y.mT, grad)
        return None, torch.baddbmm(product, product, y.mT, beta=0, alpha=-1).view(ctx.shape)


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
