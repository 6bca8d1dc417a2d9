"""The attention core in one autograd function: what `SoftAttention` runs in eager PyTorch.

It computes what the composed form in `soft.py` computes, with fewer passes over memory and nothing of size N×m kept
for the backward pass. Compilers, exporters and TorchScript get the composed form, which they fuse themselves.

Shapes: Q, V and the output are (B, N, h, d), landmarks Q̃ (B, h, m, d), their inverse kernel A⁺ (B, h, m, m).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def fused_attention(
    q: Tensor, landmarks: Tensor, inverse: Tensor, v: Tensor, filters: Tensor, grid: tuple[int, int], scale: float
) -> Tensor:
    """X = P·A⁺·(Pᵀ·V) + DWConv(V) with P the Gaussian kernel of `scale`·Q and Q̃; (B, N, h, d).

    Args:
        q, v: (B, N, h, d), float32 or float64, N = H·W.
        landmarks: (B, h, m, d), of the scaled queries.
        inverse: A⁺, (B, h, m, m).
        filters: (h, 1, k, k), one for each head.
        grid: (H, W).
        scale: of Q, d^(−¼) in the paper.
    """
    return _FusedAttention.apply(q, landmarks, inverse, v, filters, grid, scale)


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        landmarks: Tensor,
        inverse: Tensor,
        v: Tensor,
        filters: Tensor,
        grid: tuple[int, int],
        scale: float,
    ) -> Tensor:
        b, n, h, d = q.shape
        m = landmarks.shape[2]
        # The exponent q·l − ½‖q‖² − ½‖l‖² as one product of [q, −½‖q‖², 1] with [l, 1, −½‖l‖²].
        queries = q.new_empty(b, h, n, d + 2)
        torch.mul(q.transpose(1, 2), scale, out=queries[..., :d])
        norms = queries[..., d]
        torch.linalg.vector_norm(queries[..., :d], dim=-1, out=norms)
        norms.square_().mul_(-0.5)
        queries[..., d + 1] = 1
        queries = queries.view(b * h, n, d + 2)
        norms = landmarks.square().sum(-1, keepdim=True).mul_(-0.5)
        keys = torch.cat([landmarks, torch.ones_like(norms), norms], -1).view(b * h, m, d + 2)
        p = _kernel(queries, keys)
        inverse = inverse.reshape(b * h, m, m)

        # In this order nothing costs more than N·m·d.
        mixed = torch.bmm(p.mT, v.transpose(1, 2).reshape(b * h, n, d))
        x = torch.bmm(p, torch.bmm(inverse, mixed))
        # Tokens are the rows of a channels-last image, so the convolution needs no copy of V.
        local = _convolve(v, filters, grid)
        local.transpose(1, 2).add_(x.view(b, h, n, d))

        # P, the largest of all, is cheaper to compute again than to keep.
        ctx.save_for_backward(queries, keys, inverse, mixed, v, filters)
        ctx.grid, ctx.scale = grid, scale
        return local

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, inverse, mixed, v, filters = ctx.saved_tensors
        b, n, h, d = v.shape
        m = keys.shape[1]
        p = _kernel(queries, keys)
        # Side by side, so that the two terms of ∂L/∂P, one from each P in the product, are one matrix product.
        both = torch.cat([grad.transpose(1, 2), v.transpose(1, 2)], -1).view(b * h, n, 2 * d)
        grad_weighted = torch.bmm(p.mT, both[..., :d])
        grad_mixed = torch.bmm(inverse.mT, grad_weighted)
        grad_inverse = torch.bmm(grad_weighted, mixed.mT)
        exponent = torch.bmm(both, torch.cat([torch.bmm(inverse, mixed), grad_mixed], -1).mT).mul_(p)
        del both  # here and below: the large ones are not needed side by side
        mixed_back = torch.bmm(p, grad_mixed)
        del p

        # The columns of ones give the row and column sums that −½‖q‖² and −½‖l‖² need.
        by_query = torch.bmm(exponent, keys[..., : d + 1] * ctx.scale).view(b, h, n, d + 1)
        grad_q = torch.empty_like(v)
        scaled = queries[..., :d].view(b, h, n, d)
        torch.addcmul(by_query[..., :d], by_query[..., d:], scaled, value=-1, out=grad_q.transpose(1, 2))
        by_key = torch.bmm(exponent.mT, queries)
        del by_query, exponent
        grad_landmarks = torch.addcmul(by_key[..., :d], by_key[..., d + 1 :], keys[..., :d], value=-1)

        grad = grad.contiguous()
        grad_v = _convolve(grad, filters.flip(2, 3), ctx.grid)
        grad_v.transpose(1, 2).add_(mixed_back.view(b, h, n, d))
        del mixed_back
        grad_filters = None
        if ctx.needs_input_grad[4]:
            grad_filters = _filter_gradient(_as_image(v, ctx.grid), _as_image(grad, ctx.grid), filters.shape[-1])
            grad_filters = grad_filters.view(h, d, *filters.shape[1:]).sum(1)
        return (
            grad_q,
            grad_landmarks.view(b, h, m, d),
            grad_inverse.view(b, h, m, m),
            grad_v,
            grad_filters,
            None,
            None,
        )


def _kernel(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.bmm(queries, keys.mT).exp_()


def _as_image(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, h, d) -> the channels-last view (B, h·d, H, W)."""
    return tokens.flatten(2).unflatten(1, grid).permute(0, 3, 1, 2)


def _convolve(tokens: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Each head's k×k filter over each of its channels; (B, N, h, d) -> new (B, N, h, d)."""
    channels = tokens.shape[2] * tokens.shape[3]
    filters = filters.repeat_interleave(tokens.shape[3], 0)
    out = F.conv2d(_as_image(tokens, grid), filters, None, 1, filters.shape[-1] // 2, 1, channels)
    return out.permute(0, 2, 3, 1).reshape(tokens.shape)


def _filter_gradient(image: Tensor, grad: Tensor, size: int) -> Tensor:
    """Gradient of the filters (C, 1, size, size) of a depthwise convolution with padding size // 2.

    oneDNN's channels-last kernel for this is six times slower above a width of 3, so on a CPU the columns go in threes,
    each over a shifted copy of the image.
    """
    channels, reach = image.shape[1], size // 2
    if image.device.type != "cpu" or size <= 3:
        return _filter_columns(image, grad, size, reach, channels)
    columns = []
    for first in range(0, size, 3):
        left = reach - first
        shifted = F.pad(image, (left, 2 - left, 0, 0)).contiguous(memory_format=torch.channels_last)
        columns.append(_filter_columns(shifted, grad, 3, 0, channels, size)[..., : size - first])
    return torch.cat(columns, -1)


def _filter_columns(
    image: Tensor, grad: Tensor, width: int, padding: int, channels: int, height: int | None = None
) -> Tensor:
    height = height or width
    shape = image.new_empty(channels, 1, height, width)
    _, grad_filters, _ = torch.ops.aten.convolution_backward(
        grad, image, shape, None, [1, 1], [height // 2, padding], [1, 1], False, [0, 0], channels, [False, True, False]
    )
    return grad_filters
