"""A training step on a GPU, without one: tensors have a device, a type and a shape there, but no values.

PyTorch's autograd asks the driver for the device's streams, so that it needs a GPU even then. Forward and backward
passes of our own autograd functions are called by hand here, one after the other, and the optimiser's gradients are
made up.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import soft  # noqa: F401 - registers the models
from soft.attention import ATTENTIONS
from soft.attention.fast import fused
from soft.training.weight_average import WeightAverage
from tests.marks import slow

PRECISIONS = {
    "32-true": (torch.float32, None),
    "64-true": (torch.float64, None),
    "bf16-true": (torch.bfloat16, None),
    "bf16-mixed": (torch.float32, torch.bfloat16),
    "16-mixed": (torch.float32, torch.float16),
}


@pytest.fixture
def pretend() -> Iterator[None]:
    """Let autocast believe in a GPU that has bfloat16."""
    with (
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
    ):
        yield


class Context:
    """What an autograd function gets from autograd."""

    saved_tensors: tuple[Tensor, ...] = ()

    def __init__(self, inputs: tuple):
        self.needs_input_grad = tuple(isinstance(value, Tensor) and value.is_floating_point() for value in inputs)

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        pass


def forward_and_backward(function: type[torch.autograd.Function], *inputs: object) -> Tensor:
    """Return the result of an autograd function, once its gradients have the form of its inputs."""
    context = Context(inputs)
    output = function.forward(context, *inputs)
    if not torch.is_grad_enabled():
        return output
    outputs = output if isinstance(output, tuple) else (output,)
    gradients = function.backward(context, *map(torch.empty_like, outputs))
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(inputs)
    for value, gradient in zip(inputs, gradients, strict=True):
        if gradient is not None:
            assert (gradient.shape, gradient.dtype, gradient.device) == (value.shape, value.dtype, value.device)
    return output


def own_functions() -> list[type[torch.autograd.Function]]:
    return [cls for cls in torch.autograd.Function.__subclasses__() if cls.__module__.startswith("soft.")]


class Types(TorchDispatchMode):
    """Mode that notes operations between tensors of different floating-point types, and results on the host."""

    def __init__(self):
        super().__init__()
        self.float64, self.on_host = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
                self.float64.add(str(func))
            if isinstance(tensor, Tensor) and tensor.device.type != "cuda" and tensor.dim():
                self.on_host.add(str(func))
        return result


def on_fake_gpu(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a model with tensors of `dtype` on a GPU that is not there."""

    def fake(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        new = torch.empty(tensor.shape, dtype=kind, device="cuda")
        return nn.Parameter(new, requires_grad=False) if isinstance(tensor, nn.Parameter) else new

    return copy.deepcopy(model, {id(t): fake(t) for t in (*model.parameters(), *model.buffers())})


def check_step(model: nn.Module, precision: str, size: int) -> None:
    """Take a training step and a validation step, and check devices and types on the way."""
    dtype, autocast = PRECISIONS[precision]
    core = set()
    kernel = fused.gaussian_kernel

    def watched(x: Tensor, y: Tensor) -> Tensor:
        core.add(x.dtype)
        return kernel(x, y)

    types, average = Types(), WeightAverage(nn.Linear(1, 1), decay=0.9)
    with FakeTensorMode(), patch.object(fused, "gaussian_kernel", watched), ExitStack() as patches:
        for function in own_functions():
            patches.enter_context(patch.object(function, "apply", partial(forward_and_backward, function)))
        average.module = on_fake_gpu(model.eval(), dtype)
        model = on_fake_gpu(model.train(), dtype)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        images = torch.empty(4, 3, size, size, dtype=dtype, device="cuda")
        labels = torch.zeros(4, dtype=torch.long, device="cuda")
        with types:
            images, targets = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)(images, labels)
            with torch.autocast("cuda", autocast, enabled=autocast is not None):
                logits = model(images)
                loss = torch.sum(-targets * F.log_softmax(logits, -1), -1).mean()
            for parameter in model.parameters():
                parameter.grad = torch.empty_like(parameter)
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update(model, 3)
            model.eval()
            with torch.no_grad(), torch.autocast("cuda", autocast, enabled=autocast is not None):
                validated = average.module(images)

        assert logits.dtype == validated.dtype == (autocast or dtype)
        assert norm.device == loss.device == torch.device("cuda", 0)
        for name, tensor in average.module.state_dict().items():
            assert tensor.device.type == "cuda", name
            assert tensor.dtype == (dtype if tensor.is_floating_point() else torch.long), name
    assert not types.on_host
    if precision != "64-true":
        assert not types.float64
    # The kernel's exponent and the inverse are not for half precision.
    assert core <= {torch.float64 if precision == "64-true" else torch.float32}


def cases() -> list:
    """Return every model in every precision, of which the deep ones take long."""
    fast = {("soft_pico", "32-true"), ("soft_pico", "bf16-mixed"), ("soft_norm_tiny", "bf16-mixed")}
    shallow = ("soft_pico", "soft_tiny", "soft_norm_tiny")
    return [
        pytest.param(
            name,
            precision,
            marks=() if (name, precision) in fast else pytest.mark.slow if name in shallow else pytest.mark.long,
        )
        for name in timm.list_models("soft_*")
        if "encoder" not in name
        for precision in PRECISIONS
    ]


@pytest.mark.parametrize(("name", "precision"), cases())
def test_every_model(name, precision, pretend):
    size = 64 if name == "soft_pico" else 224
    options = {"num_landmarks": 16} if name == "soft_pico" else {}
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10, img_size=size, **options)
    check_step(model, precision, size)


@pytest.mark.parametrize("precision", [slow("32-true"), "bf16-mixed"])
@pytest.mark.parametrize("attention", sorted(set(ATTENTIONS) - {"soft", "soft_norm"}))
def test_every_attention(attention, precision, pretend):
    with torch.device("meta"):
        model = timm.create_model("soft_pico", num_classes=10, img_size=64, attention=attention)
    check_step(model, precision, 64)


def test_a_core_in_half_precision_would_be_found(pretend, monkeypatch):
    monkeypatch.setattr("soft.attention.soft.at_least_float32", lambda x: x)
    with torch.device("meta"):
        model = timm.create_model("soft_pico", num_classes=10, img_size=64, num_landmarks=16)
    with pytest.raises(AssertionError):
        check_step(model, "bf16-true", 64)
