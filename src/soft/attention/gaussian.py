"""The Gaussian kernel that replaces the softmax (paper, section 3.1)."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.eager import is_eager


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """exp(−½‖x_i − y_j‖²): x (..., n, d), y (..., m, d) -> (..., n, m), from 0 to 1 up to a rounding of ‖x‖²·eps.

    The exponent is x·y − ½‖x‖² − ½‖y‖²: one matrix product and no (n, m, d) difference. It cancels, so the inputs have
    to be float32 or better.
    """
    x_half = 0.5 * x.square().sum(-1, keepdim=True)
    y_half = 0.5 * y.square().sum(-1).unsqueeze(-2)
    # In place: the n×m matrix is the largest of the attention, and only its last state is needed.
    return (x @ y.transpose(-2, -1)).sub_(x_half).sub_(y_half).exp_()


def gaussian_gram(x: Tensor) -> Tensor:
    """`gaussian_kernel(x, x)`: x (..., m, d) -> (..., m, m), symmetric with a unit diagonal."""
    if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
        if is_eager():
            return _Gram.apply(x)
    return gaussian_kernel(x, x)


class _Gram(torch.autograd.Function):
    """The two roles of x share their gradient, in a third of the operations."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        a = x @ x.transpose(-2, -1)
        half = 0.5 * a.diagonal(dim1=-2, dim2=-1)
        a.sub_(half.unsqueeze(-1)).sub_(half.unsqueeze(-2)).exp_()
        ctx.save_for_backward(x, a)
        return a

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        x, a = ctx.saved_tensors
        exponent = grad * a
        exponent = exponent + exponent.transpose(-2, -1)
        return (exponent @ x).addcmul_(exponent.sum(-1, keepdim=True), x, value=-1)
