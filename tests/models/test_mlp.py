import pytest
import torch
from timm.layers import Mlp
from torch import nn

from soft.models.mlp import LeanMlp


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_it_is_timms_mlp_with_less_kept(approximate):
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
    assert kept == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_its_types(dtype):
    mlp, x = LeanMlp(6, 24, "tanh"), torch.randn(2, 5, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        out = mlp(x)
    out.float().sum().backward()
    assert out.dtype == dtype
    assert x.grad.dtype == torch.float32
