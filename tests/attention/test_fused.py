import pytest
import torch

from soft.attention import newton
from soft.attention.fused import fused_attention
from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import RIDGE, newton_inverse, plain_most, plain_start
from soft.attention.soft import NormalisedSoftAttention, SoftAttention
from tests.golden import relative_error


def attend_with_gradients(module, q, v, grid, weight):
    for tensor in (q, v, *module.parameters()):
        tensor.grad = None
    x = module.attend(q, v, grid)
    (x * weight).sum().backward()
    return [x, *(t.grad.clone() for t in (q, v, *module.parameters()) if t.grad is not None)]


@pytest.mark.parametrize("attention", [SoftAttention, NormalisedSoftAttention], ids=["plain", "normalised"])
@pytest.mark.parametrize("conv_size", [3, 5, 9])
@pytest.mark.parametrize("layout", ["tokens first", "heads first"])
@pytest.mark.parametrize("grid", [(12, 12), (7, 10)], ids=str)
def test_the_fused_form_is_the_composed_one(attention, conv_size, layout, grid, monkeypatch):
    torch.manual_seed(0)
    module = attention(24, 3, grid, conv_size, num_landmarks=16).double()
    n = grid[0] * grid[1]
    if layout == "heads first":
        q, v = torch.randn(2, 2, 3, n, 8, dtype=torch.float64).requires_grad_().unbind()
    else:
        q, v = torch.randn(2, 2, n, 3, 8, dtype=torch.float64).requires_grad_().transpose(2, 3).unbind()
    q.retain_grad(), v.retain_grad()
    weight = torch.randn(2, 3, n, 8, dtype=torch.float64)
    fused = attend_with_gradients(module, q, v, grid, weight)
    monkeypatch.setattr("soft.attention.soft.is_eager", lambda: False)
    q, v = q.detach().requires_grad_(), v.detach().requires_grad_()
    composed = attend_with_gradients(module, q, v, grid, weight)
    assert len(fused) == len(composed) == 7
    assert max(relative_error(ours, theirs) for ours, theirs in zip(fused, composed, strict=True)) < 1e-10


def test_no_product_reads_an_expanded_gradient(monkeypatch):
    """That of a sum has no strides, which makes products several times slower."""
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
    """Numbers in each tensor that the core keeps, for 50 landmarks of a 20x20 grid."""
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


def kernels(*spreads, dtype=torch.float64):
    """A with its ridge for landmarks of each spread around 0, 12 of width 8: the smaller, the worse its condition."""
    generator = torch.Generator().manual_seed(1)
    landmarks = torch.tensor(spreads)[:, None, None] * torch.randn(len(spreads), 12, 8, generator=generator)
    return (gaussian_kernel(landmarks, landmarks) + RIDGE * torch.eye(12)).to(dtype)


def steps_and_result(a, iters, monkeypatch):
    """Steps that were run (two products each), and the inverse."""
    products, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *args, **kwargs: products.append(1) or bmm(*args, **kwargs))
    result = newton_inverse(a, plain_start(a - RIDGE * torch.eye(12)) * a, iters, plain_most())
    monkeypatch.setattr(torch, "bmm", bmm)
    return len(products) // 2, result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_that_could_only_change_rounding_are_left_out(dtype, monkeypatch):
    a = kernels(3, 3, 3, 3, dtype=dtype)
    steps, early = steps_and_result(a, 20, monkeypatch)
    assert 3 < steps < 20
    monkeypatch.setattr(newton, "may_read", lambda tensor: False)
    full = newton_inverse(a, plain_start(a - RIDGE * torch.eye(12)) * a, 20)
    assert relative_error(early, full) < 8 * torch.finfo(dtype).eps


def test_the_steps_begin_at_the_best_multiple_and_end_with_the_first_that_leaves_only_rounding(monkeypatch):
    a = kernels(1, 2, 3)
    square = a @ a
    best = square.diagonal(dim1=1, dim2=2).sum(-1) / square.square().sum((1, 2))
    residual = torch.eye(12) - best[:, None, None] * square
    needed = 1
    while torch.linalg.matrix_norm(residual).max() > torch.finfo(a.dtype).eps ** 0.5 / 4:
        residual, needed = residual @ residual, needed + 1
    assert 4 <= needed < 10
    assert steps_and_result(a, 20, monkeypatch)[0] == needed
    # Six from the usual start do not invert A to rounding: they are the definition.
    assert steps_and_result(a, 6, monkeypatch)[0] == 6


@pytest.mark.parametrize("iters", [1, 2, 4, 6, 7, 8, 9, 12, 20, 40])
def test_any_number_of_steps_gives_what_it_would_one_by_one(iters, monkeypatch):
    a = kernels(0.01, 0.1, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 10)
    _, result = steps_and_result(a, iters, monkeypatch)
    v = plain_start(a - RIDGE * torch.eye(12)) * a
    for _ in range(iters):
        v = 2 * v - v @ a @ v
    errors = torch.linalg.matrix_norm(result - v) / torch.linalg.matrix_norm(v)
    assert errors.max() < 1e-11, errors


def test_steps_that_count_are_all_run(monkeypatch):
    """A badly conditioned kernel beside a well conditioned one: the truncated iterate is the definition."""
    assert steps_and_result(kernels(3, 0.1, dtype=torch.float32), 12, monkeypatch)[0] == 12
