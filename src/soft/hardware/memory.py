"""What one device holds during training, found by running a training step on tensors that have shapes and no data."""

import copy
import ctypes
import resource
import sys
import weakref
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from soft.hardware.layout import BatchLayout

GIB = 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
# Of the tensors on a CPU, as a share: the gaps between those that live, once freed memory is used again.
_GAPS = 1 / 6
_DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
_AUTOCASTS = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Memory:
    """Bytes on one device: of tensors, and on a CPU of the process around them.

    On a GPU the CUDA context, NCCL, the libraries' workspaces and fragments come on top, about 1 GiB.
    """

    process: int  # Python, the libraries, the data set and gaps between tensors, on a CPU
    weights: int  # parameters and buffers
    averages: int  # their moving average
    optimizer: int  # its state
    gradients: int  # and the buckets in which DDP exchanges them
    training: int  # the most at a time in a training step, all of the above included
    validation: int  # likewise in a validation step

    @property
    def peak(self) -> int:
        """The most at any time."""
        return max(self.training, self.validation)

    @property
    def activations(self) -> int:
        """What the training step adds to the lasting tensors at its peak."""
        return self.training - self.process - self.weights - self.averages - self.optimizer - self.gradients

    @property
    def checkpoint(self) -> int:
        """What a checkpoint holds."""
        return self.weights + self.averages + self.optimizer


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: tensors on a GPU, else all of this process, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage's figure there begins with that of the process that started this one
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Let a process on glibc use memory again that it freed; by default it gives much of it back in every step.

    The system hands out pages one by one and filled with zeros, which can take a third of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # bytes; larger tensors are mappings of their own; the most that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # bytes free at the end, above which they are given back


class LiveBytes(TorchDispatchMode):
    """Adds up the storages of all tensors made within it while they live: `now`, and the most there was as `peak`."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._storages: dict[int, tuple[int, weakref.ref]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self._add(out)
        return out

    def _add(self, out: object) -> None:
        if isinstance(out, (tuple, list)):
            for item in out:
                self._add(item)
        elif isinstance(out, Tensor):
            storage = out.untyped_storage()
            key = storage._cdata  # views share it, and it is free again only when the storage is
            if key not in self._storages:
                size = storage.nbytes()
                self._storages[key] = size, weakref.ref(storage, lambda _: self._drop(key))
                self.now += size
                self.peak = max(self.peak, self.now)

    def _drop(self, key: int) -> None:
        self.now -= self._storages.pop(key)[0]


class _Float32AsOnGpus(TorchFunctionMode):
    """CUDA's autocast computes these in float32 and the CPU's, which stands in for it here, does not."""

    FUNCTIONS = frozenset(
        {F.layer_norm, F.softmax, F.log_softmax, torch.softmax, Tensor.softmax, torch.exp, Tensor.exp, torch.sum}
        | {Tensor.sum, torch.pow, Tensor.pow, torch.rsqrt, Tensor.rsqrt}
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.FUNCTIONS and torch.is_autocast_enabled("cpu"):
            args = [a.float() if isinstance(a, Tensor) and a.dtype in _AUTOCASTS.values() else a for a in args]
        return func(*args, **(kwargs or {}))


def estimate_memory(
    module: nn.Module,
    image: tuple[int, int, int],
    layout: BatchLayout,
    val_batch: int,
    precision: str = "32-true",
    gpu: bool = False,
    ddp: bool = False,
) -> Memory:
    """Memory of the device that trains `module`: its own model, mixup, loss, optimiser and averages, in 1 to 20 s.

    Nothing is computed and `module` stays as it is, but for draws from Python's and NumPy's generators.

    Args:
        module: with `model`, `ema` and `mixup` (or None), `train_loss` and `configure_optimizers`, on any device.
        image: (C, H, W).
        layout: for the images of one pass and whether passes are accumulated.
        val_batch: images of a validation step.
        precision: one of Lightning's names.
        gpu: with the optimiser and autocast as they are on GPUs, and without this process.
        ddp: with the gradient buckets of DistributedDataParallel.
    """
    live = LiveBytes()
    dtype = _DTYPES.get(precision, torch.float32)
    # Meta tensors are several times faster, but know no autocast, which belongs to a device.
    mixed = precision in _AUTOCASTS
    device = torch.device("cpu" if mixed else "meta")
    unreal = FakeTensorMode() if mixed else nullcontext()

    def empty(like: Tensor) -> Tensor:
        kind = dtype if like.is_floating_point() else like.dtype
        new = torch.empty(like.shape, dtype=kind, device=device)
        return nn.Parameter(new, like.requires_grad) if isinstance(like, nn.Parameter) else new

    def mark() -> int:
        before, live.peak = live.now, live.now
        return before

    parts = (module.model, module.ema, module.configure_optimizers()["optimizer"])
    tensors = [t for part in parts[:2] if part is not None for t in (*part.parameters(), *part.buffers())]
    with unreal, live:
        copies = {id(tensor): empty(tensor) for tensor in tensors}
    model, ema, optimizer = copy.deepcopy(parts, copies)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def autocast():
        return torch.autocast("cpu", _AUTOCASTS[precision]) if mixed else nullcontext()

    with ExitStack() as modes:
        for mode in (unreal, live, *([_Float32AsOnGpus()] if gpu and mixed else [])):
            modes.enter_context(mode)
        for group in optimizer.param_groups:
            if gpu and group.get("foreach", True) is None:  # the default there, with temporary copies of everything
                group["foreach"] = True
        # A first step, so that the optimiser has its state in the one that counts.
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        before = live.now
        optimizer.step()
        state = live.now - before

        buckets = [torch.empty_like(parameter) for parameter in parameters] if ddp else []
        model.train()
        mark()
        for number in range(min(layout.accumulate, 2)):  # further passes only repeat the second
            images = torch.empty(layout.per_device, *image, dtype=dtype, device=device)
            targets = torch.zeros(layout.per_device, dtype=torch.long, device=device)
            if module.mixup is not None:
                images, targets = module.mixup(images, targets)
            with autocast():
                loss = module.train_loss(model(images), targets)
            if number == 0:
                optimizer.zero_grad()  # Lightning's order: the last step's gradients live until here
            loss.backward()
            del loss
        del images, targets
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if ema is not None:
            ema.update(model, step=1)
        training = live.peak

        mark()
        model.eval()
        with torch.no_grad(), autocast():
            (ema.module if ema is not None else model)(torch.empty(val_batch, *image, dtype=dtype, device=device))
        validation = live.peak
        gradients = sum(parameter.nbytes for parameter in (*parameters, *buckets))
    averages = sum(tensor.nbytes for tensor in (*ema.parameters(), *ema.buffers())) if ema is not None else 0
    process = 0
    if not gpu:
        process = peak_memory(torch.device("cpu")) - sum(t.nbytes for t in tensors if t.device.type == "cpu")
        process += round(_GAPS * max(training, validation))
    return Memory(process, weights, averages, state, gradients, training + process, validation + process)
