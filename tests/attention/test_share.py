"""The share of an attention's output that its global term adds and that differs between tokens."""

import pytest
import torch
from torch import nn

from soft.attention import create_attention
from soft.attention.share import attention_share

GRID = (8, 8)
SOFT = pytest.mark.parametrize("name", ["soft", "soft_norm"])


def small(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return create_attention(name, 32, 2, GRID, 3, **options).requires_grad_(False)


def tokens() -> torch.Tensor:
    return 3 * torch.randn(3, 64, 32, generator=torch.Generator().manual_seed(1))


def open_kernel(attention: nn.Module) -> nn.Module:
    """Let queries be as long as landmarks, so that the kernel tells tokens apart."""
    nn.init.orthogonal_(attention.q.weight, 0.5)
    return attention


def without_local(attention: nn.Module) -> nn.Module:
    attention.local.weight.zero_()
    return attention


@SOFT
def test_it_is_the_norm_of_what_differs_over_that_of_the_output(name):
    attention, x = open_kernel(small(name, num_landmarks=16, landmark_gain=0.35)), tokens()
    nn.init.eye_(attention.proj.weight)
    attention.proj.bias.zero_()
    whole = attention(x, GRID)
    spread = whole - attention.branches(x, GRID)[1].transpose(1, 2).flatten(2)
    expected = (spread - spread.mean(1, keepdim=True)).flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1)
    share = attention_share(attention, x, GRID)
    torch.testing.assert_close(share, expected)
    assert (share > 1e-3).all()


@SOFT
def test_without_values_it_is_0(name):
    attention = open_kernel(small(name, num_landmarks=16))
    for parameter in attention.v.parameters():
        parameter.zero_()
    assert attention_share(attention, tokens(), GRID).tolist() == [0, 0, 0]


@SOFT
@pytest.mark.parametrize("local", [True, False])
def test_a_kernel_that_is_the_same_everywhere_adds_nothing(name, local):
    """The global term is then large, and the same for all tokens."""
    attention, x = small(name, num_landmarks=16), tokens()
    attention.q.weight.zero_()
    if not local:
        without_local(attention)
    spread, _ = attention.branches(x, GRID)
    assert spread.norm() > 0.1
    assert (attention_share(attention, x, GRID) < 1e-5).all()


@SOFT
def test_without_the_local_term_a_kernel_that_tells_tokens_apart_has_nearly_all(name):
    attention = without_local(open_kernel(small(name, num_landmarks=16, landmark_gain=0.35)))
    x = tokens() - tokens().mean(1, keepdim=True)  # values that do not add up to the same for all
    share = attention_share(attention, x, GRID)
    assert ((share > 0.9) & (share <= 1.00001)).all()


def test_softmax_has_all_of_its_output_where_each_token_attends_to_itself():
    attention, x = small("softmax"), tokens()
    attention.qkv.weight[:64] = torch.eye(32).repeat(2, 1) * 3
    x = x - x.mean(1, keepdim=True)
    assert (attention_share(attention, x, GRID) > 0.95).all()
    attention.qkv.weight[:64] = 0
    assert (attention_share(attention, tokens(), GRID) < 1e-5).all()


def test_none_has_no_share():
    assert attention_share(small("none"), tokens(), GRID).tolist() == [0, 0, 0]
