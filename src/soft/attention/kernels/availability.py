"""Where the Triton kernels run, and whether they compute what PyTorch computes there."""

import functools
import importlib.util
import logging
import os

import torch
from torch import Tensor

from soft.attention.fast.early_stop import fast_inverse
from soft.attention.fast.fused import fused_attention
from soft.attention.precision import without_autocast
from soft.errors import SettingError

log = logging.getLogger(__name__)

MAX_LANDMARKS = 64
MAX_WIDTH = 64  # of a head
MIN_CAPABILITY = (8, 0)  # of the tensor cores that "tf32x3" products take
MAX_ERROR = 1e-4  # relative, of the result and of each gradient in float32


def check_kernels(device: torch.device) -> None:
    """Refuse `kernels=triton` on a device that Triton has no kernels for.

    Raises:
        SettingError: the device, or Triton itself, is not there.
    """
    if reason := why_not(device):
        raise SettingError(f"`attention.kernels`=triton {reason}; take `attention.kernels`=auto.")


def why_not(device: torch.device) -> str | None:
    """Return what the kernels lack on a device, as the end of a sentence; None if they can be launched there."""
    if not has_triton():
        return "needs Triton, which is not installed here"
    if device.type == "cpu":
        if os.environ.get("TRITON_INTERPRET") == "1":
            return None
        return "runs on a CPU in Triton's interpreter alone, which TRITON_INTERPRET=1 in the environment switches on"
    return _why_not_gpu(device) if device.type == "cuda" else f"is for NVIDIA GPUs, and this device is {device.type}"


@functools.cache
def has_triton() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _why_not_gpu(device: torch.device) -> str | None:
    if torch.version.hip or not torch.cuda.is_available():
        return f"is for NVIDIA GPUs, and this machine has {'one of AMD' if torch.version.hip else 'none'}"
    capability = torch.cuda.get_device_capability(device)
    if capability >= MIN_CAPABILITY:
        return None
    name = torch.cuda.get_device_name(device)
    return f"needs a GPU of compute capability 8.0 or more, and {name} has {capability[0]}.{capability[1]}"


def check_sizes(dtype: torch.dtype, inverse: str, m: int, d: int) -> None:
    """Refuse `kernels=triton` for inputs and an attention that the kernels are not written for.

    Raises:
        SettingError: names the first that does not fit, see `why_not_sizes`.
    """
    if reason := why_not_sizes(dtype, inverse, m, d):
        raise SettingError(f"`attention.kernels`=triton {reason}; take `attention.kernels`=auto.")


def why_not_sizes(dtype: torch.dtype, inverse: str, m: int, d: int) -> str | None:
    """Return what of an attention the kernels are not written for, as the end of a sentence; None if nothing.

    Args:
        dtype: of Q and V.
        inverse: how the attention inverts A.
        m, d: landmarks and head width.
    """
    if dtype == torch.float64:
        return "computes in float32, and the input is float64"
    if inverse != "newton":
        return f"has the Newton-Raphson inverse alone, and `attention.inverse`={inverse}"
    if m > MAX_LANDMARKS:
        return f"takes at most {MAX_LANDMARKS} landmarks, and there are {m}"
    if d > MAX_WIDTH:
        return f"takes heads of at most {MAX_WIDTH} channels, and they have {d}"
    return None


def kernels_work(device: torch.device, m: int, d: int, normalised: bool) -> bool:
    """Return whether the kernels can be launched on a device and agree with PyTorch there.

    They are tried once per process, on two heads of 130 tokens, for each size and variant of the m×m matrices. Where
    they fail, a warning says so once, and no other size is tried on that device.

    Args:
        device: with an index, if it is a GPU.
        m, d: landmarks and head width; they are padded to the sizes that kernels are compiled for.
        normalised: whether D^(−½)·A⁺·D^(−½) takes the place of A⁺.
    """
    return device not in _failed and _try_once(device, m, d, normalised)


_failed: set[torch.device] = set()


@functools.cache
def _try_once(device: torch.device, m: int, d: int, normalised: bool) -> bool:
    if why_not(device):
        return False
    try:
        error = largest_error(device, m, d, normalised)
        problem = "" if error < MAX_ERROR else f"differ from PyTorch's result by {error:.1e}, more than {MAX_ERROR:g}"
    except Exception as exception:  # a compiler of a machine that we do not know can raise anything
        problem = f"cannot be used ({type(exception).__name__}: {' '.join(str(exception).split())[:300]})"
    if problem:
        _failed.add(device)
        log.warning("The Triton kernels %s on %s; PyTorch computes the attention instead.", problem, device)
    return not problem


def largest_error(device: torch.device, m: int, d: int, normalised: bool) -> float:
    """Return the largest relative error of the kernels' result and gradients, for normally distributed landmarks.

    The reference is PyTorch's form in float64, which no setting of TF32 touches.
    """
    with torch.inference_mode(False), torch.enable_grad(), without_autocast(device.type):
        return _largest_error(device, m, d, normalised)


def _largest_error(device: torch.device, m: int, d: int, normalised: bool) -> float:
    from soft.attention.kernels.operator import kernel_attention

    generator = torch.Generator("cpu").manual_seed(0)  # the global one is left alone
    # Landmarks lie about 2 apart, whatever the width, so that A is neither the identity nor close to singular.
    landmarks, q, v, grad = (
        factor * torch.randn(1, *shape, d, generator=generator, device="cpu").to(device)
        for factor, shape in (((2 / d) ** 0.5, (2, m)), ((2 / d) ** 0.5, (130, 2)), (1, (130, 2)), (1, (130, 2)))
    )
    filters = torch.zeros(2, 1, 1, 1, device=device)  # no convolution: it is PyTorch's in both forms

    def invert(a: Tensor) -> Tensor:
        return fast_inverse(a, normalised=normalised)

    leaves = [x.double().requires_grad_() for x in (q, landmarks, v)]
    out = fused_attention(*leaves, filters.double(), (10, 13), 1.0, invert, normalised)
    expected = [out.detach(), *torch.autograd.grad(out, leaves, grad.double())]
    leaves = [x.requires_grad_() for x in (q, landmarks, v)]
    out = kernel_attention(*leaves, filters, (10, 13), 1.0, normalised=normalised)
    found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    tiny = torch.finfo(torch.float64).tiny  # with one landmark the normalised form is zero
    errors = [
        ((ours - theirs).norm() / theirs.norm().clamp_min(tiny)).item()
        for ours, theirs in zip(found, expected, strict=True)
    ]
    return max(errors, key=lambda error: (error != error, error))  # NaN is the worst
