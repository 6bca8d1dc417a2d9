"""Finds the places of a program where the host waits for a device, on a machine without one.

On a CPU nothing waits. What would wait on a GPU is there too, though: a tensor is read, or a number is copied into a
tensor of the device. Both are seen as calls from Python, and reads from PyTorch's own C++ code as operators.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from soft.attention.fast import early_stop

# Calls that need a tensor's values on the host, or a result whose size depends on them.
_READS = {
    *(getattr(Tensor, name) for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")),
    *(getattr(Tensor, name) for name in ("__index__", "__complex__", "__contains__", "__array__", "__repr__")),
    *(getattr(Tensor, name) for name in ("__format__", "is_nonzero", "equal", "nonzero", "argwhere", "unique")),
    *(getattr(Tensor, name) for name in ("masked_select", "allclose", "unique_consecutive")),
    *(torch.equal, torch.nonzero, torch.argwhere, torch.unique, torch.masked_select, torch.allclose),
    *(torch.is_nonzero, torch.unique_consecutive, torch.bincount, torch.histc),
}
# Calls that copy numbers into a new tensor, on the device if they name one.
_COPIES = {torch.tensor, torch.as_tensor, torch.asarray}
_READING_OPERATORS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select"}


class Synchronisations:
    """Context that records where the host would wait if the tensors in it were on a device.

    All tensors count as the device's, except those that are made within the context without naming a device, and what
    is computed from such tensors alone. The text "cpu", as libraries write it, names the host; a `torch.device` names
    the device of the run, whatever it is here.

    Attributes:
        places: number of waits by place, "file.py:line function".
    """

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._modes = (_Calls(self), _Operators(self))
        self._in_call = False
        # A CPU's values may steer the program, because reading them waits for nothing; a device's may not.
        self._as_on_device = patch.object(early_stop, "may_read", lambda tensor: False)
        self._on_host = WeakIdKeyDictionary()

    def __enter__(self) -> "Synchronisations":
        self._as_on_device.start()
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        self._as_on_device.stop()

    def __len__(self) -> int:
        return self.places.total()

    def _record(self) -> None:
        """Count the innermost place outside PyTorch that has led here."""
        frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
        outside = [frame for frame in frames if "/torch/" not in frame.filename.replace("\\", "/")]
        frame = (outside or frames)[-1]
        self.places[f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}"] += 1

    def _is_on_host(self, tensors: Iterable[Tensor]) -> bool:
        return all(tensor in self._on_host for tensor in tensors)

    def _keep_on_host(self, results: object, on_host: bool = True) -> None:
        for tensor in _tensors(results):
            if on_host:
                self._on_host[tensor] = True
            elif tensor in self._on_host:
                del self._on_host[tensor]


class _Calls(TorchFunctionMode):
    def __init__(self, found: Synchronisations):
        self.found = found

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        found, kwargs = self.found, kwargs or {}
        inputs, device = list(_tensors((args, kwargs))), _named_device(func, args, kwargs)
        on_host = _is_host(device) or (device is None and found._is_on_host(inputs))
        copies = func is Tensor.new_tensor or (func in _COPIES and not inputs and not on_host)
        reads = func in _READS or _selects(func, args) or (func is Tensor.to and _is_host(device))
        reads = reads and not found._is_on_host(inputs)
        if copies or reads:
            found._record()
        before, found._in_call = found._in_call, found._in_call or copies or reads
        try:
            result = func(*args, **kwargs)
        finally:
            found._in_call = before
        found._keep_on_host(result, func is Tensor.cpu or (on_host and not copies))
        return result


class _Operators(TorchDispatchMode):
    def __init__(self, found: Synchronisations):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        inputs = list(_tensors((args, kwargs)))
        if func._schema.name in _READING_OPERATORS and not self.found._in_call and not self.found._is_on_host(inputs):
            self.found._record()
        return func(*args, **(kwargs or {}))


def _tensors(values: object) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _named_device(func: Callable, args: tuple, kwargs: dict) -> str | torch.device | None:
    """Return the device that a call names, as it is written there."""
    if (device := kwargs.get("device")) is not None or func is not Tensor.to:
        return device
    return next((value for value in args[1:] if isinstance(value, str | torch.device)), None)


def _is_host(device: str | torch.device | None) -> bool:
    return isinstance(device, str) and device == "cpu"


def _selects(func: Callable, args: tuple) -> bool:
    """Return whether a call picks entries by a mask, whose number of hits the host has to know."""
    return func is Tensor.__getitem__ and any(mask.dtype in (torch.bool, torch.uint8) for mask in _tensors(args[1]))
