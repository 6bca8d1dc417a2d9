"""The memory that training will need, estimated by running a training step on tensors that have shapes and no data."""

import copy
import weakref
from collections.abc import Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from soft.attention.fast.selection import use_shapes_core
from soft.hardware.layout import BatchLayout
from soft.hardware.memory import peak_memory

# On a CPU freed memory is reused, which leaves gaps between living tensors: this share of the tensors' bytes.
_GAPS = 1 / 6
_DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
_AUTOCASTS = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated bytes on one device: the tensors, and on a CPU also the process around them.

    On a GPU the CUDA context, NCCL, the libraries' workspaces and fragments come on top, about 1 GiB.
    """

    process: int  # on a CPU: Python, the libraries, the data set and gaps between tensors
    weights: int  # parameters and buffers
    averages: int  # moving average of the weights
    optimizer: int  # state of the optimiser
    gradients: int  # gradients and the buckets in which DDP exchanges them
    training: int  # peak of a training step, with everything above
    validation: int  # peak of a validation step, with everything above

    @property
    def peak(self) -> int:
        """Return the larger of the two peaks."""
        return max(self.training, self.validation)

    @property
    def activations(self) -> int:
        """Return the bytes that a training step adds, at its peak, to the tensors that last."""
        return self.training - self.process - self.weights - self.averages - self.optimizer - self.gradients

    @property
    def checkpoint(self) -> int:
        """Return the bytes of a checkpoint."""
        return self.weights + self.averages + self.optimizer


class LiveBytes(TorchDispatchMode):
    """Context that counts the bytes of all tensors made within it while they live.

    Attributes:
        now: bytes that live at this moment.
        peak: maximum of `now` so far.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._storages: dict[int, tuple[int, weakref.ref]] = {}

    def reset_peak(self) -> None:
        """Begin a new peak with what lives now."""
        self.peak = self.now

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
            key = storage._cdata  # shared by views, and reused only after the storage is gone
            if key not in self._storages:
                size = storage.nbytes()
                self._storages[key] = size, weakref.ref(storage, lambda _: self._drop(key))
                self.now += size
                self.peak = max(self.peak, self.now)

    def _drop(self, key: int) -> None:
        self.now -= self._storages.pop(key)[0]


class _Float32AsOnGpus(TorchFunctionMode):
    """Mode in which the CPU's autocast, which stands in for CUDA's, uses float32 wherever CUDA's does."""

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
    kernels: bool = False,
) -> MemoryEstimate:
    """Estimate the memory of the device that trains `module`, in 1 to 20 s.

    One training step and one validation step are run with the module's own model, mixup, loss, optimiser and averages.
    Nothing is computed and `module` stays as it is; only Python's and NumPy's random generators advance.

    Args:
        module: has `model`, `ema` and `mixup` (the last two may be None), `train_loss` and `configure_optimizers`; on
            any device.
        image: (C, H, W).
        layout: how the global batch lies over devices; it gives the images of one pass and the number of passes.
        val_batch: images of a validation step.
        precision: one of Lightning's names.
        gpu: take the optimiser and autocast as they are on GPUs, and do not count the memory of this process.
        ddp: add the gradient buckets of DistributedDataParallel.
        kernels: SOFT's attention runs in Triton kernels, which keep no N×m tensor, unless the model says otherwise.
    """
    live = LiveBytes()
    dtype = _DTYPES.get(precision, torch.float32)
    mixed = precision in _AUTOCASTS
    # Meta tensors are several times faster than fake ones, but autocast does not work on the meta device.
    device = torch.device("cpu" if mixed else "meta")
    unreal = FakeTensorMode() if mixed else nullcontext()

    def autocast():
        return torch.autocast("cpu", _AUTOCASTS[precision]) if mixed else nullcontext()

    parts = (module.model, module.ema, module.train_loss, module.configure_optimizers()["optimizer"])
    tensors = [t for part in parts[:3] if part is not None for t in (*part.parameters(), *part.buffers())]
    with unreal, live:
        copies = {id(tensor): _empty_like(tensor, dtype, device) for tensor in tensors}
    model, ema, train_loss, optimizer = copy.deepcopy(parts, copies)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if kernels:
        for part in filter(None, (model, ema)):
            use_shapes_core(part)

    with ExitStack() as modes:
        for mode in (unreal, live, *([_Float32AsOnGpus()] if gpu and mixed else [])):
            modes.enter_context(mode)
        if gpu:
            _set_foreach(optimizer)
        state = _make_state(optimizer, parameters, live)
        buckets = [torch.empty_like(parameter) for parameter in parameters] if ddp else []

        model.train()
        live.reset_peak()
        for number in range(min(layout.accumulate, 2)):  # further passes would only repeat the second
            images = torch.empty(layout.per_device, *image, dtype=dtype, device=device)
            targets = torch.zeros(layout.per_device, dtype=torch.long, device=device)
            if module.mixup is not None:
                images, targets = module.mixup(images, targets)
            with autocast():
                loss = train_loss(model(images), targets)
            if number == 0:
                optimizer.zero_grad()  # Lightning keeps the last step's gradients until here
            loss.backward()
            del loss
        del images, targets
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if ema is not None:
            ema.update(model, step=1)
        training = live.peak

        live.reset_peak()
        model.eval()
        with torch.no_grad(), autocast():
            (ema.module if ema is not None else model)(torch.empty(val_batch, *image, dtype=dtype, device=device))
        validation = live.peak
        gradients = _bytes_of([*parameters, *buckets])
    process = 0
    if not gpu:
        process = peak_memory(torch.device("cpu")) - _bytes_of(t for t in tensors if t.device.type == "cpu")
        process += round(_GAPS * max(training, validation))
    return MemoryEstimate(
        process=process,
        weights=_bytes_of([*model.parameters(), *model.buffers()]),
        averages=_bytes_of([*ema.parameters(), *ema.buffers()]) if ema is not None else 0,
        optimizer=state,
        gradients=gradients,
        training=training + process,
        validation=validation + process,
    )


def _empty_like(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor of the same shape on `device`, of `dtype` if it is floating point."""
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    new = torch.empty(tensor.shape, dtype=kind, device=device)
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _set_foreach(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimiser work as it does by default on GPUs, with temporary copies of everything."""
    for group in optimizer.param_groups:
        if group.get("foreach", True) is None:
            group["foreach"] = True


def _make_state(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], live: LiveBytes) -> int:
    """Take a first step, which makes the optimiser's state, and return the state's bytes."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    before = live.now
    optimizer.step()
    return live.now - before


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
