"""The blocks' MLP, which computes its GELU again in the backward pass instead of keeping it."""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.eager import is_eager


class LeanMlp(Mlp):
    """timm's Mlp with GELU and without dropout. Tokens (..., C) -> (..., C).

    The two hidden activations are the largest tensors of a block. One follows from the other at a few percent of the
    step's time, so only the first is kept. Under autocast, and for compilers and exporters, this is timm's own forward.

    Args:
        dim: token width C.
        hidden: width between the two maps.
        approximate: of GELU, `tanh` or `none`.
    """

    def __init__(self, dim: int, hidden: int, approximate: str):
        super().__init__(dim, hidden)
        self.act = nn.GELU(approximate)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            if is_eager() and hidden.dtype == self.fc2.weight.dtype:
                return _GeluLinear.apply(hidden, self.fc2.weight, self.fc2.bias, self.act.approximate)
        return self.fc2(self.act(hidden))


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, bias: Tensor, approximate: str) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.approximate = approximate
        return F.linear(F.gelu(hidden, approximate=approximate), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        grad_weight = rows.mT @ F.gelu(hidden, approximate=ctx.approximate).flatten(0, -2)
        grad_hidden = torch.ops.aten.gelu_backward(grad @ weight, hidden, approximate=ctx.approximate)
        return grad_hidden, grad_weight, rows.sum(0), None
