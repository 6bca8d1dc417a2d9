"""Launches of the Triton kernels: the attention core forward and backward, and inverses, on tensors.

Shapes: Q, V, the output and their gradients are (B, N, h, d), landmarks Q̃ (B, h, m, d).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from soft.attention.fast.depthwise import filter_gradient
from soft.attention.kernels import matrices, tokens
from soft.attention.local import convolve_tokens

# Tokens of a program, and of one of its blocks. The sums over tokens are split by them, whatever the batch and the GPU.
SPAN, BLOCK = 512, 64
# Chosen with `tests/attention/kernels/compile_ahead.py`, so that no register is spilled. Nothing is fetched ahead
# (num_stages=1) where a loop reads what the same program has just written.
WARPS = {"num_warps": 4}
MATRIX_WARPS = {"num_warps": 8, "num_stages": 1}
FEW = 16  # landmarks at a time, where all of them are more than the registers hold
BACKWARD = {"span": SPAN, "block_n": 32, "few": FEW, "num_warps": 4, "num_stages": 1}


class Saved(NamedTuple):
    """What the backward pass needs besides the inputs."""

    inverse: Tensor  # A⁺, (B·h, m, m)
    mixed: Tensor  # M = Pᵀ·V, (B·h, m, d)
    weighted: Tensor  # W = factor·A⁺·M, (B·h, m, d)


def attend(
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    grid: tuple[int, int],
    scale: float,
    iters: int,
    normalised: bool,
    factor: float,
) -> tuple[Tensor, Saved]:
    """Return X = `factor`·P·A⁺·(Pᵀ·V) + DWConv(V) in float32, (B, N, h, d), and what its gradient needs.

    Args:
        q, v: (B, N, h, d), in any floating-point type but float64.
        landmarks: Q̃ of the scaled queries, (B, h, m, d), m and d from 1 to 64.
        filters: (h, 1, k, k), one for each head.
        grid: height H and width W in tokens.
        scale: of Q, d^(−¼) in the paper.
        iters: Newton-Raphson steps T.
        normalised: whether D^(−½)·A⁺·D^(−½) takes the place of A⁺, D the row sums of A.
        factor: of the global term, 1 as published.
    """
    q, v, landmarks = _unit_stride(q), _unit_stride(v), landmarks.contiguous()
    b, n, h, d = v.shape
    m = landmarks.shape[2]
    inverse, a, rest = (_floats(q, b * h, m, m) for _ in range(3))
    mixed, weighted = (_floats(q, b * h, m, d) for _ in range(2))
    sums = _floats(q, -(-n // SPAN), b * h, m, d)
    out = convolve_tokens(v.float(), filters.float(), grid).contiguous()
    blocks = _blocks(m, d)
    passes = {"span": SPAN, "block_n": BLOCK, **blocks, **WARPS}
    spans = (b * h, len(sums))
    with torch.cuda.device_of(q):
        tokens.project[spans](q, landmarks, v, sums, scale, h, n, m, d, *q.stride()[:3], *v.stride()[:3], **passes)
        matrices.weigh[spans[:1]](
            *(landmarks, sums, inverse, mixed, weighted, a, rest, factor, len(sums), m, d, iters, _limit(iters)),
            *(normalised, FEW),
            **blocks,
            **MATRIX_WARPS,
        )
        tokens.combine[spans](q, landmarks, weighted, out, scale, h, n, m, d, *q.stride()[:3], **passes)
    return out, Saved(inverse, mixed, weighted)


def differentiate(
    grad: Tensor,
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    saved: Saved,
    grid: tuple[int, int],
    scale: float,
    normalised: bool,
    factor: float,
    with_filters: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of Q, Q̃, V and the filters, each in its input's type.

    Args:
        grad: of the output of `attend`; the other arguments are those of `attend`.
        with_filters: whether the filters' gradient is wanted; else it is None.
    """
    q, v, landmarks, grad = _unit_stride(q), _unit_stride(v), landmarks.contiguous(), grad.float().contiguous()
    b, n, h, d = v.shape
    m = landmarks.shape[2]
    grad_mixed, grad_landmarks = _floats(q, 2, b * h, m, d)
    sums = _floats(q, -(-n // SPAN), b * h, m, d)
    grad_q = _floats(q, b, n, h, d)
    grad_v = convolve_tokens(grad, filters.float().flip(2, 3), grid).contiguous()
    grad_filters = None
    if with_filters:
        grad_filters = filter_gradient(v.float(), grad, filters.shape[-1], grid).to(filters.dtype)
    blocks = _blocks(m, d)
    passes = {"span": SPAN, "block_n": BLOCK, **blocks, **WARPS}
    spans = (b * h, len(sums))
    with torch.cuda.device_of(q):
        tokens.project[spans](
            q, landmarks, grad, sums, scale, h, n, m, d, *q.stride()[:3], *grad.stride()[:3], **passes
        )
        matrices.differentiate_weights[spans[:1]](
            *(landmarks, sums, *saved, grad_mixed, grad_landmarks, factor, len(sums), m, d, normalised),
            **blocks,
            **MATRIX_WARPS,
        )
        tokens.differentiate[spans](
            *(q, v, landmarks, saved.weighted, grad_mixed, grad, grad_q, grad_v, sums, scale, h, n, m, d),
            *(*q.stride()[:3], *v.stride()[:3]),
            **BACKWARD,
            block_d=blocks["block_d"],
        )
    # PyTorch adds the parts in a fixed order; float atomics would make the gradient change from run to run.
    grad_landmarks = torch.add(grad_landmarks, sums.sum(0), alpha=scale).view(landmarks.shape)
    return grad_q.to(q.dtype), grad_landmarks.to(landmarks.dtype), grad_v.to(v.dtype), grad_filters


def invert(a: Tensor, iters: int = 20, normalised: bool = False) -> Tensor:
    """Return `kernel_inverse` of A by Newton-Raphson in one launch, float32 (..., m, m), without a gradient.

    Args:
        a: (..., m, m), m from 1 to 64.
        iters: largest number of steps T.
        normalised: whether D^(−½)·A⁺·D^(−½) takes the place of A⁺, D the row sums of A.
    """
    a = a.detach().float().clone(memory_format=torch.contiguous_format)  # the kernel writes to it
    m = a.shape[-1]
    inverse, rest = torch.empty_like(a), torch.empty_like(a)
    with torch.cuda.device_of(a):
        matrices.invert[(a.numel() // (m * m),)](
            a, inverse, rest, m, iters, _limit(iters), normalised, FEW, block_m=_padded(m), **MATRIX_WARPS
        )
    return inverse


def _floats(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _unit_stride(x: Tensor) -> Tensor:
    """Return `x` itself, or a copy if the channels do not lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _blocks(m: int, d: int) -> dict[str, int]:
    return {"block_m": _padded(m), "block_d": _padded(d)}


def _padded(size: int) -> int:
    """Return the next of 16, 32, 64: tensor cores take no less."""
    return max(16, 1 << (size - 1).bit_length())


def _limit(iters: int) -> float:
    """Return the distance from 1 that `iters` steps are certain to square away, see `matrices.newton`."""
    return matrices.NEGLIGIBLE.value ** (2.0 ** (1 - iters))
