import math

import pytest
import torch

from soft.attention import reference
from soft.attention.fast.early_stop import fast_inverse
from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import INVERSES, inverse_residual, kernel_inverse
from soft.attention.soft import NormalisedSoftAttention, SoftAttention
from soft.errors import SettingError
from tests.golden import TOLERANCE, fill, golden, image, relative_error

BOTH = pytest.mark.parametrize("attention", [SoftAttention, NormalisedSoftAttention], ids=["plain", "normalised"])

# case: (class, batch, grid, heads, convolution of V)
CASES = {
    "attn_stage1": (SoftAttention, 2, (16, 16), 2, 9),
    "attn_stage3": (SoftAttention, 2, (14, 14), 3, 3),
    "attn_norm": (NormalisedSoftAttention, 2, (14, 14), 3, 3),
}
OFFICIAL = {
    "Qlandmark_op.weight": "landmarks.conv.weight",
    "Qnorm_act.0.weight": "landmarks.norm.weight",
    "Qnorm_act.0.bias": "landmarks.norm.bias",
    "conv.weight": "local.weight",
}


def golden_attention(case: str, dtype: torch.dtype):
    """The case's module with the golden weights, and its Q and V (B, h, N, 32)."""
    cls, batch, grid, heads, conv_size = CASES[case]
    module = cls(32 * heads, heads, grid, conv_size, num_landmarks=16 if case == "attn_stage1" else 49).to(dtype)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for theirs, ours in OFFICIAL.items():
            parameters[ours].copy_(fill(f"{case}.{theirs}", tuple(parameters[ours].shape)))
    shape = (batch, heads, grid[0] * grid[1], 32)
    q, v = 0.7 * image(1, shape), image(2, shape)
    return module, q.to(dtype).requires_grad_(), v.to(dtype).requires_grad_()


def small(attention=SoftAttention, grid=(8, 8), **options):
    """Two heads of 8 on a small grid, float64."""
    torch.manual_seed(0)
    return attention(16, 2, grid, 3, **{"num_landmarks": 9, **options}).double()


def defined_attend(module: SoftAttention, q, v, grid):
    """X by the reference's formulas, from the module's own landmarks and, but for newton, its own inverse."""
    q = q / q.shape[-1] ** 0.25
    landmarks = module.landmarks(q, grid)
    a = reference.gaussian_kernel(landmarks, landmarks)
    if module.inverse == "newton":
        inverse = reference.kernel_inverse(a, module.newton_iters, module.normalised)
    else:
        inverse = kernel_inverse(a, module.inverse, normalised=module.normalised)
    p = reference.gaussian_kernel(q, landmarks)
    return reference.mix(p, inverse, v) + reference.convolve(v, module.local.weight, grid)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("case", list(CASES))
def test_golden_output_and_gradients(case, dtype):
    module, q, v = golden_attention(case, dtype)
    x = module.attend(q, v, CASES[case][2])
    (x * image(3, tuple(x.shape)).to(dtype)).sum().backward()
    found = {"out": x, "grad_q": q.grad, "grad_v": v.grad}
    found |= {f"grad.{theirs}": module.get_parameter(ours).grad for theirs, ours in OFFICIAL.items()}
    errors = {name: relative_error(value, golden(f"{case}.{name}")) for name, value in found.items()}
    assert max(errors.values()) < TOLERANCE[dtype], errors


@BOTH
@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("sampling", ["conv", "avgpool", "random", "first"])
@pytest.mark.parametrize("grid", [(8, 8), (5, 9)], ids=str)
def test_attend_is_its_definition(attention, inverse, sampling, grid):
    module = small(attention, grid, inverse=inverse, sampling=sampling)
    q, v = torch.randn(2, 2, 2, math.prod(grid), 8, dtype=torch.float64)
    expected = defined_attend(module, q, v, grid)
    for form in (module.attend, module.compose):
        assert relative_error(form(q, v, grid), expected) < 1e-10


def test_the_selected_core_runs_in_eager_pytorch_and_is_never_recorded(monkeypatch):
    calls, core = [], lambda attention, q, v, grid: calls.append(q.shape) or attention.compose(q, v, grid)
    monkeypatch.setattr("soft.attention.soft.eager_core", core)
    module, x = small().requires_grad_(False), torch.randn(2, 64, 16, dtype=torch.float64)
    expected = module(x, (8, 8))
    assert calls == [(2, 2, 64, 8)]
    torch._dynamo.reset()
    recorded = [
        torch.jit.script(module)(x, (8, 8)),
        torch.jit.trace(lambda x: module(x, (8, 8)), x, check_trace=False)(x),
        torch.export.export(module, (x, (8, 8))).module()(x, (8, 8)),
        torch.compile(module, backend="eager", fullgraph=True)(x, (8, 8)),
    ]
    assert len(calls) == 1
    for found in recorded:
        torch.testing.assert_close(found, expected)


@BOTH
def test_gradients_of_the_whole_module_are_derivatives_where_newton_has_converged(attention):
    module = small(attention, (4, 4), num_landmarks=4, newton_iters=30)
    x = 2 * torch.randn(1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: module(x, (4, 4)), x, fast_mode=True)


@BOTH
def test_forward_is_maps_attend_and_projection(attention):
    module, x = small(attention), torch.randn(3, 64, 16, dtype=torch.float64)
    q, v = (linear(x).reshape(3, 64, 2, 8).transpose(1, 2) for linear in (module.q, module.v))
    heads = module.attend(q, v, (8, 8)).transpose(1, 2).reshape(3, 64, 16)
    torch.testing.assert_close(module(x, (8, 8)), module.proj(heads))


@BOTH
def test_an_image_does_not_depend_on_its_neighbours(attention):
    """It is the same to float64 rounding beside a much larger image and one whose landmarks coincide."""
    module, x = small(attention, newton_iters=3), torch.randn(3, 64, 16, dtype=torch.float64)
    x[1] *= 1000
    x[2] = 1
    assert relative_error(module(x, (8, 8))[0], module(x[:1], (8, 8))[0]) < 1e-12


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.float64, 1e-9)], ids=["float32", "float64"])
def test_residual_is_that_of_the_kernel_between_the_landmarks(dtype, rtol):
    module, x = small(newton_iters=4).to(dtype), torch.randn(2, 64, 16, dtype=dtype)
    q = module.q(x).reshape(2, 64, 2, 8).transpose(1, 2) * 8**-0.25
    landmarks = module.landmarks(q, (8, 8))
    a = gaussian_kernel(landmarks, landmarks)
    expected = inverse_residual(a, kernel_inverse(a, iters=4))
    residual = module.newton_residual(x, (8, 8))
    assert residual.shape == (2, 2)
    torch.testing.assert_close(residual, expected, rtol=rtol, atol=rtol / 100)
    assert not residual.requires_grad


@BOTH
def test_the_kernel_mean_is_that_of_p(attention):
    module, x = small(attention), torch.randn(2, 64, 16, dtype=torch.float64)
    q = module.q(x).reshape(2, 64, 2, 8).transpose(1, 2) * 8**-0.25
    expected = reference.gaussian_kernel(q, module.landmarks(q, (8, 8))).mean((2, 3))
    found = module.kernel_mean(x, (8, 8))
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


@BOTH
@pytest.mark.parametrize("times", [(2, 2), (1, 3)], ids=str)
def test_a_dynamic_attention_sees_an_enlarged_grid_as_its_own(attention, times):
    torch.manual_seed(0)
    module = attention(16, 2, (8, 6), 0, num_landmarks=9, landmark_gain="auto").double()
    module.landmarks.dynamic = True
    grid = (8 * times[0], 6 * times[1])

    def enlarge(x):
        rows = x.unflatten(-2, (8, 6)).repeat_interleave(times[0], -3)
        return rows.repeat_interleave(times[1], -2).flatten(-3, -2)

    x = image(3, (2, 48, 16))
    expected = enlarge(module(x, (8, 6)))
    torch.testing.assert_close(module(enlarge(x), grid), expected)
    torch.testing.assert_close(torch.jit.script(module)(enlarge(x), grid), expected)
    glob, local = module.branches(enlarge(x), grid)
    assert not local.any()
    torch.testing.assert_close(glob, enlarge(module.branches(x, (8, 6))[0]))
    maps = module.attention_map(enlarge(x), grid, [0]).unflatten(-1, grid)
    whole = maps.unflatten(-2, (8, times[0])).unflatten(-1, (6, times[1])).sum((-3, -1)).flatten(-2)
    torch.testing.assert_close(whole, module.attention_map(x, (8, 6), [0]))
    module.landmarks.dynamic = False
    assert relative_error(module(enlarge(x), grid), expected) > 0.1


def test_a_smaller_landmark_gain_starts_with_a_wider_kernel():
    x = torch.randn(4, 64, 16, dtype=torch.float64)
    means = [small(landmark_gain=gain).kernel_mean(x, (8, 8)).mean() for gain in (1.0, 0.6, 0.3)]
    assert means == sorted(means)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_autocast_gives_finite_outputs_and_gradients(attention, dtype, scale):
    """Queries reach 100 on a stage-1 grid, and X passes float16's 65504 on the way."""
    torch.manual_seed(0)
    module = attention(64, 2, (56, 56), 9)
    with torch.no_grad():
        module.q.weight.copy_(torch.eye(64))
    x = torch.randn(1, 3136, 64)
    x = (scale * x / x.abs().max()).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = module(x, (56, 56))
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    for parameter in (x, *module.parameters()):
        assert torch.isfinite(parameter.grad).all()


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_attend_takes_half_precision_and_works_in_float32(attention, dtype):
    module = attention(64, 2, (8, 8), 3, num_landmarks=16)
    q, v = torch.randn(2, 1, 2, 64, 32).to(dtype).requires_grad_(True)
    with torch.autocast("cpu", dtype=dtype):
        x = module.attend(100 * q / q.abs().max(), v, (8, 8))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, module.attend((100 * q / q.abs().max()).float(), v.float(), (8, 8)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_inverse_sees_float32_under_autocast(dtype, monkeypatch):
    seen = []

    def inverse(a, *args):
        seen.append((a.dtype, torch.is_autocast_enabled("cpu")))
        return fast_inverse(a, *args)

    monkeypatch.setattr("soft.attention.soft.fast_inverse", inverse)
    with torch.autocast("cpu", dtype=dtype):
        small().float()(torch.randn(1, 64, 16), (8, 8))
    assert seen == [(torch.float32, False)]


def test_float16_autocast_survives_sums_beyond_its_range():
    module = small(grid=(16, 16)).float()
    with torch.no_grad():
        for parameter in (*module.q.parameters(), *module.landmarks.norm.parameters()):
            parameter.zero_()
        module.v.weight.copy_(1000 * torch.eye(16))
    # Every kernel is 1, and X is the sum of 256 values of 1000.
    x = torch.ones(1, 256, 16)
    with torch.autocast("cpu", dtype=torch.float16):
        out = module(x, (16, 16))
    assert out.abs().max() > 65504
    assert torch.isfinite(out).all()
    assert relative_error(out, module(x, (16, 16))) < 1e-2


def test_a_model_of_half_precision_weights_keeps_its_type():
    module = small().bfloat16()
    assert module(torch.randn(1, 64, 16, dtype=torch.bfloat16), (8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"newton_iters": 0}, "newton_iters=0 has to be a whole number of at least 1"),
        ({"newton_iters": 2.5}, "newton_iters=2.5 has to be a whole number"),
        ({"newton_iters": True}, "newton_iters=True has to be a whole number"),
        ({"inverse": "lu"}, r"inverse='lu' is not known; it is one of newton, cholesky, svd\."),
        ({"sampling": "max"}, "sampling='max' is not known"),
        ({"num_landmarks": 10}, "num_landmarks=10 is not a square number"),
        ({"landmark_gain": 0}, "landmark_gain=0 has to be a number above 0"),
    ],
    ids=str,
)
def test_unfit_options_are_errors(options, message):
    with pytest.raises(SettingError, match=message):
        small(**options)


def test_a_width_that_does_not_divide_over_the_heads_is_an_error():
    with pytest.raises(SettingError, match="width of 16 does not divide over num_heads=3"):
        SoftAttention(16, 3, (8, 8), 3, 9)
