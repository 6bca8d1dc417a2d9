import pytest
import torch

from soft.attention import reference
from soft.attention.fast.fused import fused_attention
from soft.attention.soft import NormalisedSoftAttention, SoftAttention
from tests.golden import relative_error

BOTH = pytest.mark.parametrize("attention", [SoftAttention, NormalisedSoftAttention], ids=["plain", "normalised"])


def gradients(form, q, v, grid, leaves, weight):
    """Output of one form of the core, and its gradient for every leaf that it uses."""
    x = form(q, v, grid)
    grads = torch.autograd.grad(x, leaves, weight, allow_unused=True)
    return [x, *(grad for grad in grads if grad is not None)]


@BOTH
@pytest.mark.parametrize("conv_size", [3, 5, 9])
@pytest.mark.parametrize("layout", ["tokens first", "heads first"])
@pytest.mark.parametrize("grid", [(12, 12), (7, 10)], ids=str)
@pytest.mark.parametrize("global_scale", [None, 5.0])
def test_the_fused_and_the_recorded_form_are_the_reference(attention, conv_size, layout, grid, global_scale):
    torch.manual_seed(0)
    module = attention(24, 3, grid, conv_size, num_landmarks=16, global_scale=global_scale).double()
    n = grid[0] * grid[1]
    if layout == "heads first":
        q, v = torch.randn(2, 2, 3, n, 8, dtype=torch.float64).requires_grad_().unbind()
    else:
        q, v = torch.randn(2, 2, n, 3, 8, dtype=torch.float64).requires_grad_().transpose(2, 3).unbind()
    sampler = module.landmarks
    weights = reference.Weights(sampler.conv.weight, sampler.norm.weight, sampler.norm.bias, module.local.weight)

    def defined(q, v, grid):
        return reference.attend(
            q, v, grid, weights, sampler.stride, normalised=module.normalised, global_scale=global_scale
        )

    weight, leaves = torch.randn(2, 3, n, 8, dtype=torch.float64), (q, v, *module.parameters())
    expected = gradients(defined, q, v, grid, leaves, weight)
    assert len(expected) == 7
    for form in (module.attend, module.compose):
        found = gradients(form, q, v, grid, leaves, weight)
        assert max(relative_error(ours, theirs) for ours, theirs in zip(found, expected, strict=True)) < 1e-10


def test_no_product_reads_an_expanded_gradient(monkeypatch):
    """The gradient of a sum has no strides, which makes products several times slower."""
    strides, bmm = [], torch.bmm

    def recorded(*operands, **options):
        strides.extend(operand.stride()[1:] for operand in operands)
        return bmm(*operands, **options)

    module = SoftAttention(16, 2, (8, 8), 5, num_landmarks=4)
    q, v = torch.randn(2, 1, 2, 64, 8, requires_grad=True).unbind()
    x = module.attend(q, v, (8, 8))
    monkeypatch.setattr(torch, "bmm", recorded)
    x.sum().backward()
    assert len(strides) >= 10
    assert all(0 not in stride for stride in strides)


def test_frozen_filters_get_no_gradient():
    module = SoftAttention(16, 2, (8, 8), 5, num_landmarks=4)
    module.local.weight.requires_grad_(False)
    module(torch.randn(1, 64, 16), (8, 8)).sum().backward()
    assert module.local.weight.grad is None


def kept_for_backward(q, v):
    """Sizes of the tensors that the core keeps, for 50 landmarks of a 20x20 grid."""
    landmarks, filters = torch.randn(1, 2, 50, 8), torch.randn(2, 1, 3, 3)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        fused_attention(q, landmarks, v, filters, (20, 20), 1.0, torch.ones_like)
    return sorted(sizes)


def test_the_kernel_is_kept_once_and_only_for_a_backward_pass():
    q, v = torch.randn(2, 1, 400, 2, 8)
    assert kept_for_backward(q, v) == []
    *others, largest = kept_for_backward(q.requires_grad_(), v)
    assert largest == 2 * 400 * 50  # P
    assert max(others) == 2 * 400 * 8  # Q and V
    with torch.no_grad():
        assert kept_for_backward(q, v) == []
