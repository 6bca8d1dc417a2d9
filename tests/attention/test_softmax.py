import pytest
import torch
from timm.layers import Attention
from torch import nn

from soft.attention.softmax import SoftmaxAttention
from soft.errors import SettingError
from tests.attention.packages import PRECISE, errors


class Torch(nn.MultiheadAttention):
    """PyTorch's own module as self-attention."""

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("dtype", list(PRECISE), ids=str)
@pytest.mark.parametrize("grid", [(8, 8), (5, 3)], ids=str)
def test_equals_pytorchs_multihead_attention(grid, dtype):
    torch.manual_seed(0)
    ours = SoftmaxAttention(48, 3, grid, 3).to(dtype)
    names = {f"in_proj_{kind}": (f"qkv.{kind}", -1) for kind in ("weight", "bias")}
    names |= {f"out_proj.{kind}": (f"proj.{kind}", -1) for kind in ("weight", "bias")}
    x = torch.randn(2, grid[0] * grid[1], 48, dtype=dtype)
    found = errors(ours, Torch(48, 3, batch_first=True, dtype=dtype), names, x, grid)
    # A bias of the keys changes no softmax: its gradient is rounding.
    found.pop("('qkv.bias', -1)")
    assert max(found.values()) < PRECISE[dtype], found


def test_equals_timms_attention_key_for_key():
    ours, theirs = SoftmaxAttention(64, 2, (4, 4), 3), Attention(64, 2, qkv_bias=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 16, 64)
    torch.testing.assert_close(ours(x, (4, 4)), theirs(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_fused_kernel_runs_in_autocasts_type(dtype, monkeypatch):
    seen, fused = [], torch.nn.functional.scaled_dot_product_attention

    def record(q, k, v):
        seen.append(q.dtype)
        return fused(q, k, v)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", record)
    with torch.autocast("cpu", dtype=dtype):
        SoftmaxAttention(64, 2, (4, 4), 3)(torch.randn(1, 16, 64), (4, 4))
    assert seen == [dtype]


def test_a_width_that_does_not_divide_over_the_heads_is_an_error():
    with pytest.raises(SettingError, match="width of 16 does not divide over num_heads=3"):
        SoftmaxAttention(16, 3, (8, 8), 3)
