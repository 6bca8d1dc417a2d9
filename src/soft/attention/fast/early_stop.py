"""Newton-Raphson inverses that leave out steps which could change nothing but rounding."""

import torch
from torch import Tensor

from soft.attention.fast.eager import may_read
from soft.attention.newton import (
    RIDGE,
    add_ridge,
    direct_inverse,
    newton_inverse,
    normalised_alpha,
    plain_alpha,
    scale_by_row_sums,
)


def fast_inverse(a: Tensor, method: str = "newton", iters: int = 20, normalised: bool = False) -> Tensor:
    """Return `kernel_inverse`'s value to rounding, without its gradient; the arguments are the same.

    On a CPU the steps end once they could change nothing but rounding. On other devices all are run, because finding
    out would cost more than it saves.
    """
    a = a.detach()
    ridged = add_ridge(a, normalised)
    if method != "newton":
        y = direct_inverse(ridged, method, normalised)
    else:
        readable = may_read(a)
        alpha = normalised_alpha(a, may_stop=readable) if normalised else plain_alpha(a)
        if readable:
            y = stopped_newton_inverse(ridged, alpha * ridged, iters, 2.0 if normalised else max_plain_eigenvalue())
        else:
            y = newton_inverse(ridged, alpha * ridged, iters)
    return scale_by_row_sums(y, a) if normalised else y


def max_plain_eigenvalue(ridge: float = RIDGE) -> float:
    """Return a bound on the eigenvalues of A·αA, with `plain_alpha`'s α and the ridge in A.

    The largest row sum bounds the eigenvalues of A without its ridge; it is at least 1, because A has a unit diagonal.
    """
    return 1.8 * (1 + ridge) ** 2


def stopped_newton_inverse(a: Tensor, v0: Tensor, iters: int, max_eigenvalue: float = 2.0) -> Tensor:
    """Return `newton_inverse`'s result to rounding, in fewer steps where fewer are enough.

    The steps end once all that remain could change nothing but rounding. They start from the best multiple of `v0` for
    a matrix that they are certain to invert.

    Args:
        a, v0: (..., m, m) on a CPU; `v0` is a multiple of A, or commutes with it.
        iters: largest number of steps.
        max_eigenvalue: what no eigenvalue of A·V0 exceeds.
    """
    m = a.shape[-1]
    return _iterate(a.reshape(-1, m, m), v0.reshape(-1, m, m), iters, max_eigenvalue).view(v0.shape)


def _iterate(a: Tensor, v: Tensor, iters: int, max_eigenvalue: float) -> Tensor:
    """Run the steps that count, on (n, m, m), in memory that is taken once."""
    negative, m = -a, a.shape[-1]
    residual, following, spare = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
    diagonal = residual.diagonal(dim1=-2, dim2=-1)
    # The norms below are exact to about m roundings, far below √eps, the smallest residual that still matters.
    negligible = torch.finfo(a.dtype).eps ** 0.5 / 4
    look = 3  # the step that looks at the residual next; in the first steps from the usual start it is always large
    for step in range(iters):
        # V(2I − A·V) takes one pass over memory less than 2V − V·A·V.
        torch.bmm(negative, v, out=residual)
        if step == 0 and max_eigenvalue < 2:
            scale = _best_multiple(residual, iters, max_eigenvalue, negligible**2)
            v = v * scale
            residual.mul_(scale)
        last = False
        if step == look:
            # This step squares I − A·V, and its norm becomes at most the square.
            diagonal.add_(1.0)
            norm = float(torch.linalg.vector_norm(residual, dim=(1, 2)).max())
            last = norm <= negligible
            # The norm falls fastest if all eigenvalues are alike: until then there is no need to look again.
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


def _best_multiple(negative_product: Tensor, iters: int, max_eigenvalue: float, negligible: float) -> Tensor:
    """Return for each matrix the factor of V0 that takes A·V0 nearest to I: −A·V0, (n, m, m) -> (n, 1, 1).

    It is 1 where `iters` steps from V0 are not certain to leave at most `negligible` of I − A·V, because the truncated
    iterate is not the inverse there.
    """
    trace = negative_product.diagonal(dim1=-2, dim2=-1).sum(-1).neg_()
    squares = torch.linalg.vector_norm(negative_product, dim=(1, 2)).square_()
    factor = trace / squares
    # ‖I − factor·A·V0‖ bounds how far the smallest eigenvalue of factor·A·V0 is from 1.
    distance = (negative_product.shape[-1] - trace * factor).clamp_min_(0).sqrt_()
    farthest = (1 - (1 - distance) / factor).clamp_min_(max_eigenvalue - 1)
    certain = farthest <= negligible ** (0.5**iters)
    return torch.where(certain, factor, 1.0)[:, None, None]
