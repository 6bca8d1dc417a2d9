"""The Newton-Raphson inverse in one launch."""

import pytest
import torch

from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import RIDGE, add_ridge, kernel_inverse
from tests.attention.kernels.interpreter import interpreted
from tests.golden import golden, relative_error
from tests.marks import slow

pytestmark = interpreted
VARIANTS = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])


def invert(*arguments, **options):
    from soft.attention.kernels import launches

    return launches.invert(*arguments, **options)


def kernels(*spreads: float, m: int, width: int = 8) -> torch.Tensor:
    """A of m landmarks for each spread around 0, in float64: the smaller the spread, the worse its condition."""
    generator = torch.Generator().manual_seed(m)
    landmarks = torch.tensor(spreads)[:, None, None] * torch.randn(len(spreads), m, width, generator=generator)
    return gaussian_kernel(landmarks.double(), landmarks.double())


@pytest.mark.parametrize("iters", [1, 2, 5, slow(10), slow(20)])
@pytest.mark.parametrize("case", ["newton_well", "newton_ill"])
def test_iterates_of_the_released_code(case, iters):
    expected = golden(f"{case}.T{iters}")
    found = invert(golden(f"{case}.A"), iters)
    # What PyTorch's steps round to in float32 is the measure where the steps amplify rounding.
    rounding = relative_error(kernel_inverse(golden(f"{case}.A").float(), iters=iters), expected)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < max(1e-5, 4 * rounding)


@VARIANTS
@pytest.mark.parametrize("m", [1, 7, 16, slow(49), slow(64)])
def test_any_size_and_each_matrix_by_itself(m, normalised):
    a = kernels(0.7, 1.0, 2.0, m=m)
    found = invert(a[None], normalised=normalised)
    assert found.shape == (1, 3, m, m)
    expected = kernel_inverse(a, normalised=normalised)
    for ours, theirs, kernel in zip(found[0], expected, a, strict=True):
        rounding = relative_error(kernel_inverse(kernel.float(), normalised=normalised), theirs) if theirs.any() else 0
        assert (ours - theirs).norm() <= max(1e-5, 4 * rounding) * theirs.norm()


@VARIANTS
@pytest.mark.parametrize("iters", [1, slow(3), 4, slow(6), 20])
def test_any_number_of_steps(iters, normalised):
    a = kernels(0.3, 1.0, 3.0, m=12)
    expected = kernel_inverse(a, iters=iters, normalised=normalised)
    for ours, theirs, kernel in zip(invert(a, iters, normalised), expected, a, strict=True):
        rounding = relative_error(kernel_inverse(kernel.float(), iters=iters, normalised=normalised), theirs)
        assert relative_error(ours, theirs) < max(1e-5, 4 * rounding)


@pytest.mark.parametrize("spread", [slow(0.0), slow(1e-6), 1e-3, slow(1e-2)])
@VARIANTS
def test_near_coincident_landmarks_are_as_exact_as_in_pytorch(spread, normalised):
    """The condition number with the ridge is 4,901."""
    a = 1 - spread * (1 - kernels(1.0, 1.0, m=49))
    if not normalised and spread < 1e-3:
        assert torch.linalg.cond(add_ridge(a, False)).min() > 4800
    expected = kernel_inverse(a, normalised=normalised)
    found = invert(a, normalised=normalised)
    rounding = relative_error(kernel_inverse(a.float(), normalised=normalised), expected)
    assert torch.isfinite(found).all()
    assert relative_error(found, expected) < max(1e-5, 4 * rounding)


def products(monkeypatch, *arguments) -> int:
    """Number of m×m products that an inverse takes."""
    from triton.runtime.interpreter import InterpreterBuilder

    count, create_dot = [], InterpreterBuilder.create_dot

    def counted(*operands):
        count.append(1)
        return create_dot(*operands)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted)
    invert(*arguments)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    return len(count)


def test_steps_that_could_only_change_rounding_are_left_out(monkeypatch):
    """They begin at the best multiple of A, and end with the first that leaves only rounding; each is two products."""
    a = kernels(1.2, m=12)[0]
    square = add_ridge(a, False) @ add_ridge(a, False)
    residual = torch.eye(12) - square.trace() / square.square().sum() * square
    needed = 1
    while residual.norm() > torch.finfo(torch.float32).eps ** 0.5 / 4:
        residual, needed = residual @ residual, needed + 1
    assert 4 <= needed < 10
    assert products(monkeypatch, a[None], 20) == 2 * needed
    # Where they do not invert A to rounding the steps are the definition, and all are run from the published start.
    assert products(monkeypatch, a[None], 5) == 10
    assert products(monkeypatch, kernels(0.05, m=12), 20) == 40


def test_the_kernel_between_landmarks_is_exact_and_symmetric():
    from soft.attention.kernels import launches

    landmarks = 1 + 1e-3 * torch.randn(1, 1, 49, 32, generator=torch.Generator().manual_seed(0))
    q = v = torch.zeros(1, 4, 1, 32)
    _, saved = launches.attend(q, landmarks, v, torch.zeros(1, 1, 1, 1), (2, 2), 1.0, 1, False, 1.0)
    # One step from α·A gives 2αA − α²A³, from which A follows: its largest row sum fixes α.
    a = gaussian_kernel(landmarks.double(), landmarks.double())[0, 0]
    ridged = a + RIDGE * torch.eye(49)
    alpha = 1.8 / a.sum(-1).max() ** 2
    expected = 2 * alpha * ridged - alpha**2 * ridged @ ridged @ ridged
    assert relative_error(saved.inverse[0], expected) < 3e-6
