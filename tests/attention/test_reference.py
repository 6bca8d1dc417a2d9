import math

import pytest
import torch

from soft.attention import reference
from tests.golden import TOLERANCE, fill, golden, image, relative_error

# case: (normalised, batch, grid, heads, convolution of V, landmarks)
CASES = {
    "attn_stage1": (False, 2, (16, 16), 2, 9, 16),
    "attn_stage3": (False, 2, (14, 14), 3, 3, 49),
    "attn_norm": (True, 2, (14, 14), 3, 3, 49),
}
NAMES = ("Qlandmark_op.weight", "Qnorm_act.0.weight", "Qnorm_act.0.bias", "conv.weight")


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("case", list(CASES))
def test_output_and_gradients_are_those_of_the_released_code(case, dtype):
    normalised, batch, grid, heads, conv_size, m = CASES[case]
    stride = grid[0] // math.isqrt(m)
    shapes = ((32, 32, stride, stride), (32,), (32,), (heads, 1, conv_size, conv_size))
    weights = [fill(f"{case}.{name}", shape) for name, shape in zip(NAMES, shapes, strict=True)]
    shape = (batch, heads, grid[0] * grid[1], 32)
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (0.7 * image(1, shape), image(2, shape), *weights)]
    q, v, *weights = leaves
    x = reference.attend(q, v, grid, reference.Weights(*weights), stride, normalised=normalised)
    (x * image(3, shape).to(dtype)).sum().backward()
    found = dict(zip(("grad_q", "grad_v", *(f"grad.{name}" for name in NAMES)), leaves, strict=True))
    errors = {name: relative_error(leaf.grad, golden(f"{case}.{name}")) for name, leaf in found.items()}
    errors["out"] = relative_error(x, golden(f"{case}.out"))
    assert max(errors.values()) < TOLERANCE[dtype], errors


@pytest.mark.parametrize("iters", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("case", ["newton_well", "newton_ill"])
def test_iterates_are_those_of_the_released_code(case, iters):
    a = golden(f"{case}.A")
    assert relative_error(reference.kernel_inverse(a, iters), golden(f"{case}.T{iters}")) < 2e-7


@pytest.mark.parametrize("iters", [1, 20])
def test_the_gradient_of_newton_raphson_is_that_of_the_exact_inverse(iters):
    x = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = reference.gaussian_kernel(x, x).requires_grad_()
    y = reference.newton_raphson(a, reference.plain_alpha(a.detach()), iters)
    grad = torch.randn_like(y)
    y.backward(grad)
    torch.testing.assert_close(a.grad, -y.mT @ grad @ y.mT)


def test_the_step_size_is_halved_for_each_matrix_by_itself():
    """Where all landmarks coincide, the eigenvalues of A are m and 0, and 2 / m² is the edge of divergence."""
    a = torch.stack([torch.ones(5, 5), torch.eye(5)]).double()
    together = reference.normalised_alpha(a).flatten().tolist()
    assert together == [reference.normalised_alpha(matrix).item() for matrix in a]
    norms = [(torch.eye(5) - alpha * a[0] @ a[0]).abs().sum(0).max().item() for alpha in (2 * together[0], together[0])]
    assert norms[1] <= 1.01 < norms[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_any_device_and_type(dtype):
    with torch.device("meta"):
        q, v = torch.empty(2, 2, 3, 64, 8, dtype=dtype).unbind()
        shapes = ((8, 8, 2, 2), (8,), (8,), (3, 1, 3, 3))
        weights = reference.Weights(*(torch.empty(shape, dtype=dtype) for shape in shapes))
    for normalised in (False, True):
        x = reference.attend(q, v, (8, 8), weights, 2, normalised=normalised)
        assert (x.shape, x.dtype, x.device.type) == (v.shape, dtype, "meta")
