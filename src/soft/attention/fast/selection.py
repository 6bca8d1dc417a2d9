"""The forms of SOFT's attention core, and what decides which one runs.

`SoftAttention.attend` takes `eager_core` in eager PyTorch and `recorded_core` otherwise. Exporters, tracers and
TorchScript get `SoftAttention.compose`, in operations that they know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from soft.attention.fast.fused import fused_attention
from soft.attention.fast.windows import sample_landmarks
from soft.attention.kernels.availability import check_kernels, check_sizes, kernels_work, why_not_sizes
from soft.settings import check_choice

if TYPE_CHECKING:
    from soft.attention.soft import SoftAttention

# Computes X from an attention's weights, Q, V (B, h, N, d) in float32 or float64, and the grid, as `compose` does.
Core = Callable[["SoftAttention", Tensor, Tensor, tuple[int, int]], Tensor]

KERNELS = ("auto", "torch", "triton")


def check_choice_of_kernels(kernels: str, inverse: str, num_landmarks: int, head_dim: int) -> None:
    """Refuse an unknown name of kernels, and `triton` for an attention that there are no Triton kernels for.

    The device is not known when an attention is built: it is checked at its first input, or by `check_kernels`.

    Raises:
        SettingError: `kernels` is refused.
    """
    check_choice("`attention.kernels`", kernels, KERNELS)
    if kernels == "triton":
        check_sizes(torch.float32, inverse, num_landmarks, head_dim)


def eager_core(attention: SoftAttention, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return X of Q and V (B, h, N, d), by one autograd function for the landmarks and one for all else."""
    landmarks, q = sample_landmarks(attention.landmarks, q, grid, attention.scale)
    filters = attention.local.weight.to(v.dtype)
    scale, normalised, factor = attention.scale, attention.normalised, attention.global_factor(grid)
    q, v = q.transpose(1, 2), v.transpose(1, 2)
    if _launches_kernels(attention, q, landmarks.shape[2]):
        from soft.attention.kernels.operator import kernel_attention  # imports Triton

        x = kernel_attention(q, landmarks, v, filters, grid, scale, attention.newton_iters, normalised, factor)
    else:
        x = fused_attention(q, landmarks, v, filters, grid, scale, attention.fast_inverse, normalised, factor)
    return x.transpose(1, 2)


def recorded_core(attention: SoftAttention, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return X of Q and V (B, h, N, d) in what a recorder of operations understands.

    For torch.compile that is the kernels' operator, where the kernels run. Everything else gets PyTorch's operations,
    whatever `kernels` says: what is exported has to run without Triton.
    """
    if attention.kernels == "torch" or not torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting():
        return attention.compose(q, v, grid)
    landmarks = attention.landmarks(q, grid, attention.scale)
    m, d = landmarks.shape[2], landmarks.shape[3]
    if not _operator_runs(attention.kernels, q.device, q.dtype, attention.inverse, m, d, attention.normalised):
        return attention.compose(q, v, grid)
    return _operate(attention, q, landmarks, v, grid)


def shapes_core(attention: SoftAttention, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return X of Q and V (B, h, N, d) that have no values, making the tensors that the kernels make and no others.

    This needs Triton's package and no GPU.
    """
    import soft.attention.kernels.operator  # noqa: F401 - registers the operator

    landmarks, q = sample_landmarks(attention.landmarks, q, grid, attention.scale)
    return _operate(attention, q, landmarks, v, grid)


def _operate(attention: SoftAttention, q: Tensor, landmarks: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    sizes = grid[0], grid[1], attention.scale, attention.newton_iters, attention.normalised
    filters, factor = attention.local.weight.to(v.dtype), attention.global_factor(grid)
    x = torch.ops.soft.attention(q.transpose(1, 2), landmarks, v.transpose(1, 2), filters, *sizes, factor)[0]
    return x.transpose(1, 2)


def use_shapes_core(model: nn.Module) -> None:
    """Let the attentions of a model without values take `shapes_core`, where `kernels=auto` would launch kernels."""
    for attention in model.modules():
        if getattr(attention, "kernels", "torch") != "torch" and attention.core is eager_core:
            head_dim = attention.proj.in_features // attention.num_heads
            sizes = attention.inverse, attention.landmarks.num_landmarks, head_dim
            if why_not_sizes(torch.float32, *sizes) is None:
                attention.core = shapes_core


def _launches_kernels(attention: SoftAttention, q: Tensor, m: int) -> bool:
    # Tensors without values are subclasses or on the device meta.
    if attention.kernels == "torch" or type(q) is not Tensor or q.device.type == "meta" or q.numel() == 0:
        return False
    return _chosen(attention.kernels, q.device, q.dtype, attention.inverse, m, q.shape[-1], attention.normalised)


@torch.compiler.assume_constant_result
def _operator_runs(
    kernels: str, device: torch.device, dtype: torch.dtype, inverse: str, m: int, d: int, normalised: bool
) -> bool:
    """Return what a compiler takes for a constant: whether the operator is there for these inputs."""
    if device.type == "meta" or not _chosen(kernels, device, dtype, inverse, m, d, normalised):
        return False
    import soft.attention.kernels.operator  # noqa: F401 - registers the operator

    return True


def _chosen(
    kernels: str, device: torch.device, dtype: torch.dtype, inverse: str, m: int, d: int, normalised: bool
) -> bool:
    """Return whether Triton computes the core: always for `triton`, which raises what prevents it."""
    if kernels == "triton":
        check_kernels(device)
        check_sizes(dtype, inverse, m, d)
        return True
    if device.type != "cuda" or why_not_sizes(dtype, inverse, m, d) is not None:
        return False
    return kernels_work(device, m, d, normalised)
