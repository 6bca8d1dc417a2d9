import pytest
import torch
from timm.layers import Mlp
from torch import nn
from torch.nn.utils import prune

from soft.models.mlp import LeanMlp


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_it_is_timms_mlp_with_nothing_hidden_kept(approximate):
    torch.manual_seed(0)
    lean = LeanMlp(6, 24, approximate).double()
    plain = Mlp(6, 24, act_layer=lambda: nn.GELU(approximate)).double()
    plain.load_state_dict(lean.state_dict())
    grads, kept = [], []
    for mlp in (lean, plain):
        x = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.setdefault(t.data_ptr(), t.numel()) and t, lambda t: t
        ):
            out = mlp(x)
        (out * torch.arange(6)).sum().backward()
        grads.append([out, x.grad, *(parameter.grad for parameter in mlp.parameters())])
        kept.append(list(sizes.values()).count(2 * 5 * 24))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert kept == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_its_types(dtype):
    mlp, x = LeanMlp(6, 24, "tanh"), torch.randn(2, 5, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        out = mlp(x)
    out.float().sum().backward()
    assert out.dtype == dtype
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_chunks_do_not_show(approximate, monkeypatch):
    torch.manual_seed(0)
    mlp, x = LeanMlp(6, 24, approximate).double(), torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for chunk in (24 * 4, 2**20):  # 15 rows in 3 and a part, and all at once
        monkeypatch.setattr("soft.models.mlp.CHUNK", chunk)
        out = mlp(x)
        grads = torch.autograd.grad((out * torch.arange(6)).sum(), [x, *mlp.parameters()])
        results.append([out, *grads])
    for few, all_ in zip(*results, strict=True):
        torch.testing.assert_close(few, all_, rtol=1e-12, atol=1e-12)


def test_large_values_of_the_gelu_stay_finite():
    mlp = LeanMlp(1, 2, "tanh")
    torch.nn.init.ones_(mlp.fc1.weight), torch.nn.init.zeros_(mlp.fc1.bias)
    x = torch.tensor([[-1e4], [-30.0], [0.0], [30.0], [1e4]], requires_grad=True)
    plain = mlp.fc2(mlp.act(mlp.fc1(x)))
    expected = torch.autograd.grad(plain.sum(), x)[0]
    out = mlp(x)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], expected)


def test_hooks_on_the_maps_are_called():
    mlp, seen = LeanMlp(6, 24, "tanh"), []
    for part in (mlp.fc1, mlp.act, mlp.fc2):
        part.register_forward_hook(lambda module, inputs, output: seen.append(module))
    mlp(torch.randn(2, 5, 6))
    assert seen == [mlp.fc1, mlp.act, mlp.fc2]


def test_an_empty_batch_passes():
    x = torch.randn(0, 5, 6, requires_grad=True)
    out = LeanMlp(6, 24, "tanh")(x)
    out.sum().backward()
    assert out.shape == x.grad.shape == (0, 5, 6)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Adapter(nn.Module):
    """A low-rank update beside a frozen map, with the attributes that such packages keep."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base, self.update = base, nn.Linear(base.in_features, base.out_features, bias=False)
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x):
        return self.base(x) + self.update(x)


def patched(base: nn.Module) -> nn.Module:
    base.forward = lambda x: nn.functional.linear(x, 3 * base.weight, base.bias)
    return base


REPLACED = {
    "adapter": Adapter,
    "subclass": lambda base: Doubled(base.in_features, base.out_features),
    "parametrization": nn.utils.parametrizations.weight_norm,
    "pruned": lambda base: prune.l1_unstructured(base, "weight", 0.5),
    "another forward": patched,
    "no bias": lambda base: nn.Linear(base.in_features, base.out_features, bias=False),
}


@pytest.mark.parametrize("replaced", REPLACED)
@pytest.mark.parametrize("name", ["fc1", "fc2"])
def test_other_linear_maps_are_called(name, replaced):
    mlp, x = LeanMlp(6, 24, "tanh"), torch.randn(2, 5, 6)
    setattr(mlp, name, REPLACED[replaced](getattr(mlp, name)))
    torch.testing.assert_close(mlp(x), mlp.fc2(mlp.act(mlp.fc1(x))))


def test_another_activation_is_called():
    mlp, x = LeanMlp(6, 24, "tanh"), torch.randn(2, 5, 6)
    mlp.act = nn.ReLU()
    assert torch.equal(mlp(x), mlp.fc2(mlp.fc1(x).relu()))
