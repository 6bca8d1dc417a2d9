"""Peak memory and arithmetic of a call, both exact and the same every time."""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count

MIB = 2**20
aten = torch.ops.aten


def peak_allocation(call: Callable[[], object], device: torch.device) -> int:
    """Return the peak of the bytes that `call` allocates, not counting what was allocated before it.

    On the CPU the peak is computed from every allocation that PyTorch's profiler saw, operators' own work space
    included. The process's resident memory is no measure: it holds what the C library kept of earlier frees, and
    differs from run to run.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports on standard error that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        call()
    events = measured.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors that share no memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def count_flops(call: Callable[[], object]) -> int:
    """Return the floating-point operations of the matrix products and convolutions in `call`, two per multiply-add.

    PyTorch's counter leaves out everything that works element by element (exp, GELU, normalisation, dropout, the
    optimiser). It also leaves out products in place and, in some versions, softmax attention on a CPU, which are added
    here; and it counts the backward pass of a grouped convolution as if it had one group, many times too much for a
    depthwise one, which is corrected here. What a backward pass computes again is counted again.
    """
    with FlopCounterMode(display=False, custom_mapping=_CORRECTIONS) as counter:
        call()
    return counter.get_total_flops()


def _product_in_place(_, left, right, *rest, out_shape=None, **kwargs) -> int:
    return 2 * int(torch.Size(left).numel()) * right[-1]


def _convolution_backward(
    grad, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, mask, out_shape=None, **kwargs
) -> int:
    # The gradients of the input and of the weight each take as many products as the forward pass.
    return conv_flop_count(x, weight, grad, transposed=transposed) * (bool(mask[0]) + bool(mask[1]))


def _softmax_attention(q, k, v, *_, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(q, k, v)


def _softmax_attention_backward(grad, q, k, v, *_, out_shape=None, **kwargs) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


_CORRECTIONS = {
    # PyTorch 2.14 leaves out the CPU's attention.
    aten._scaled_dot_product_flash_attention_for_cpu: _softmax_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _softmax_attention_backward,
    aten.baddbmm_: _product_in_place,
    aten.addmm_: _product_in_place,
    aten.convolution_backward: _convolution_backward,
}
