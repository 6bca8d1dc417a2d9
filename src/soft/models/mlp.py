"""The blocks' MLP as one autograd function, which keeps no hidden activations for the backward pass."""

import math
from collections.abc import Iterator

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.fast.eager import is_eager, is_plain

# Number of hidden values that a CPU works on at a time, so few that its cache holds them from one step to the next.
CHUNK = 2**19

# Tanh-GELU is x·σ(ODD·x + CUBIC·x³) with σ the logistic function, which is cheaper than tanh.
ODD = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * ODD


class LeanMlp(Mlp):
    """timm's Mlp with GELU and without dropout: tokens (..., C) -> (..., C).

    The hidden activations and their gradients are the largest tensors of a block. The activations are not kept: the
    backward pass computes them again. On a CPU neither exists as a whole: both are computed for a few rows at a time,
    which stay in the cache, and this pays for computing the activations twice. In half precision, under autocast, for
    compilers and exporters, and where the linear maps or the activation are others, as with adapters, or have hooks,
    timm's own forward runs instead.

    Args:
        dim: token width C.
        hidden: width between the two linear maps.
        approximate: `tanh` for GELU's tanh approximation, `none` for exact GELU.
    """

    def __init__(self, dim: int, hidden: int, approximate: str):
        super().__init__(dim, hidden)
        self.act = nn.GELU(approximate)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (..., C), given tokens (..., C)."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            if is_eager() and _can_fuse(self, x):
                first, second = self.fc1, self.fc2
                return _Mlp.apply(x, first.weight, first.bias, second.weight, second.bias, self.act.approximate)
        return self.fc2(self.act(self.fc1(x)))


def _can_fuse(mlp: LeanMlp, x: Tensor) -> bool:
    parts = ((mlp.fc1, nn.Linear), (mlp.act, nn.GELU), (mlp.fc2, nn.Linear))
    if not all(is_plain(part, kind) for part, kind in parts) or mlp.fc1.bias is None or mlp.fc2.bias is None:
        return False
    if x.dtype not in (torch.float32, torch.float64) or x.dtype != mlp.fc1.weight.dtype:
        return False
    device_type = x.device.type
    return not (torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type))


class _Mlp(torch.autograd.Function):
    """W₂·GELU(W₁·x + b₁) + b₂, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, approximate: str
    ) -> Tensor:
        rows = x.flatten(0, -2)
        out = rows.new_empty(len(rows), len(weight2))
        buffers = _buffers(rows, weight1, 2)
        for start, end in _chunks(rows, weight1):
            hidden, activated = (buffer[: end - start] for buffer in buffers)
            torch.addmm(bias1, rows[start:end], weight1.mT, out=hidden)
            _gelu(hidden, approximate, activated)
            torch.addmm(bias2, activated, weight2.mT, out=out[start:end])
        ctx.save_for_backward(rows, weight1, bias1, weight2)
        ctx.approximate, ctx.shape = approximate, x.shape
        return out.view(*x.shape[:-1], len(weight2))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight1, bias1, weight2 = ctx.saved_tensors
        grad = grad.flatten(0, -2)
        grad_rows = torch.empty_like(rows)
        grad_weight1, grad_bias1, grad_weight2 = map(torch.zeros_like, (weight1, bias1, weight2))
        buffers = _buffers(rows, weight1, 4)
        for start, end in _chunks(rows, weight1):
            hidden, activated, through, space = (buffer[: end - start] for buffer in buffers)
            torch.addmm(bias1, rows[start:end], weight1.mT, out=hidden)
            torch.mm(grad[start:end], weight2, out=through)
            _gelu_backward(through, hidden, ctx.approximate, activated, space)
            grad_weight2.addmm_(grad[start:end].mT, activated)
            grad_weight1.addmm_(through.mT, rows[start:end])
            grad_bias1.add_(through.sum(0))
            torch.mm(through, weight1, out=grad_rows[start:end])
        return grad_rows.view(ctx.shape), grad_weight1, grad_bias1, grad_weight2, grad.sum(0), None


def _chunk(rows: Tensor, weight: Tensor) -> int:
    return max(1, min(len(rows), CHUNK // len(weight)) if rows.device.type == "cpu" else len(rows))


def _chunks(rows: Tensor, weight: Tensor) -> Iterator[tuple[int, int]]:
    step = _chunk(rows, weight)
    return ((start, min(start + step, len(rows))) for start in range(0, len(rows), step))


def _buffers(rows: Tensor, weight: Tensor, count: int) -> tuple[Tensor, ...]:
    return rows.new_empty(count, _chunk(rows, weight), len(weight)).unbind()


def _gelu(x: Tensor, approximate: str, out: Tensor) -> None:
    """Write GELU(x) into `out`."""
    if _is_one_pass(x, approximate):
        torch.ops.aten.gelu.out(x, approximate=approximate, out=out)
    else:
        _gate(x, out).mul_(x)


def _gelu_backward(grad: Tensor, x: Tensor, approximate: str, out: Tensor, space: Tensor) -> None:
    """Write GELU(x) into `out`, and turn `grad`, the gradient of that, into the gradient of `x` in place."""
    if _is_one_pass(x, approximate):
        torch.ops.aten.gelu.out(x, approximate=approximate, out=out)
        torch.ops.aten.gelu_backward.grad_input(grad, x, approximate=approximate, grad_input=grad)
        return
    gate = _gate(x, out)
    slope = torch.addcmul(_scalar(ODD, x), x, x, value=3 * CUBIC, out=space).mul_(x)
    torch.ops.aten.sigmoid_backward.grad_input(slope, gate, grad_input=slope)
    grad.mul_(slope.add_(gate))
    gate.mul_(x)


def _is_one_pass(x: Tensor, approximate: str) -> bool:
    # On a CPU, PyTorch's tanh-GELU takes twice as long as the passes of `_gate` over a chunk in the cache.
    return approximate == "none" or x.device.type != "cpu"


def _gate(x: Tensor, out: Tensor) -> Tensor:
    """Write σ(ODD·x + CUBIC·x³) into `out`, the factor by which tanh-GELU multiplies x."""
    return torch.addcmul(_scalar(ODD, x), x, x, value=CUBIC, out=out).mul_(x).sigmoid_()


def _scalar(value: float, like: Tensor) -> Tensor:
    return like.new_full((), value)
