import pytest
import torch

from soft.attention.fast import early_stop
from soft.attention.fast.early_stop import fast_inverse, max_plain_eigenvalue, stopped_newton_inverse
from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import INVERSES, RIDGE, kernel_inverse, newton_inverse, plain_alpha
from tests.golden import relative_error


def kernels(*spreads, dtype=torch.float64):
    """A with its ridge for 12 landmarks of each spread around 0: the smaller the spread, the worse its condition."""
    generator = torch.Generator().manual_seed(1)
    landmarks = torch.tensor(spreads)[:, None, None] * torch.randn(len(spreads), 12, 8, generator=generator)
    return (gaussian_kernel(landmarks, landmarks) + RIDGE * torch.eye(12)).to(dtype)


def steps_and_result(a, iters, monkeypatch):
    """Number of steps that were run, each of two products, and the inverse."""
    products, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *args, **kwargs: products.append(1) or bmm(*args, **kwargs))
    start = plain_alpha(a - RIDGE * torch.eye(12)) * a
    result = stopped_newton_inverse(a, start, iters, max_plain_eigenvalue())
    monkeypatch.setattr(torch, "bmm", bmm)
    return len(products) // 2, result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_that_could_only_change_rounding_are_left_out(dtype, monkeypatch):
    a = kernels(3, 3, 3, 3, dtype=dtype)
    steps, early = steps_and_result(a, 20, monkeypatch)
    assert 3 < steps < 20
    full = newton_inverse(a, plain_alpha(a - RIDGE * torch.eye(12)) * a, 20)
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
    # Six steps from the usual start do not invert A to rounding, so that they are the definition.
    assert steps_and_result(a, 6, monkeypatch)[0] == 6


@pytest.mark.parametrize("iters", [1, 2, 4, 6, 7, 8, 9, 12, 20, 40])
def test_any_number_of_steps_gives_what_it_would_one_by_one(iters, monkeypatch):
    a = kernels(0.01, 0.1, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 10)
    _, result = steps_and_result(a, iters, monkeypatch)
    v = plain_alpha(a - RIDGE * torch.eye(12)) * a
    for _ in range(iters):
        v = 2 * v - v @ a @ v
    errors = torch.linalg.matrix_norm(result - v) / torch.linalg.matrix_norm(v)
    assert errors.max() < 1e-11, errors


def test_steps_that_count_are_all_run(monkeypatch):
    """With a badly conditioned kernel beside a well conditioned one, the truncated iterate is the definition."""
    assert steps_and_result(kernels(3, 0.1, dtype=torch.float32), 12, monkeypatch)[0] == 12


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("readable", [True, False], ids=["values are read", "values are not read"])
@pytest.mark.parametrize("method", INVERSES)
def test_the_fast_inverse_is_the_kernel_inverse_without_its_gradient(method, readable, normalised, monkeypatch):
    if not readable:
        monkeypatch.setattr(early_stop, "may_read", lambda tensor: False)
    generator = torch.Generator().manual_seed(0)
    landmarks = torch.randn(3, 12, 8, dtype=torch.float64, generator=generator)
    landmarks *= torch.tensor([0.3, 1, 3])[:, None, None]
    a = gaussian_kernel(landmarks, landmarks).requires_grad_()
    found, expected = (f(a, method, 20, normalised) for f in (fast_inverse, kernel_inverse))
    assert relative_error(found, expected) < 1e-10
    assert not found.requires_grad


def test_a_kernel_without_values_is_inverted_without_reading_one():
    for normalised in (False, True):
        assert fast_inverse(torch.empty(2, 9, 9, device="meta"), normalised=normalised).shape == (2, 9, 9)
