"""The attention core by the kernels, and every gradient, in Triton's interpreter."""

import math

import pytest
import torch

from soft.attention import reference
from soft.attention.fast.early_stop import fast_inverse
from soft.attention.fast.fused import fused_attention
from soft.attention.soft import NormalisedSoftAttention, SoftAttention
from tests.attention.kernels.interpreter import interpreted
from tests.attention.test_soft import CASES, OFFICIAL, golden_attention
from tests.golden import TOLERANCE, golden, image, relative_error
from tests.marks import slow

pytestmark = interpreted
VARIANTS = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])
NAMES = ("out", "q", "landmarks", "v", "filters")


@pytest.mark.parametrize("case", [case if case == "attn_stage1" else slow(case) for case in CASES])
def test_golden_output_and_gradients(case):
    module, q, v = golden_attention(case, torch.float32)
    module.kernels = "triton"
    x = module.attend(q, v, CASES[case][2])
    assert x.grad_fn.next_functions[0][0].name() == "_KernelAttentionBackward"
    (x * image(3, tuple(x.shape)).float()).sum().backward()
    found = {"out": x, "grad_q": q.grad, "grad_v": v.grad}
    found |= {f"grad.{theirs}": module.get_parameter(ours).grad for theirs, ours in OFFICIAL.items()}
    errors = {name: relative_error(value, golden(f"{case}.{name}")) for name, value in found.items()}
    assert max(errors.values()) < TOLERANCE[torch.float32], errors


def inputs(grid=(5, 7), m=9, d=8, heads=2, batch=1, spread=1.0, center=0.0, dtype=torch.float32):
    """Q, landmarks, V, filters, and a gradient of the output; landmarks lie about √2·`spread` apart."""
    generator = torch.Generator().manual_seed(0)
    n = math.prod(grid)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    q, v, grad = (draw(batch, n, heads, d) for _ in range(3))
    landmarks = center + spread * draw(batch, heads, m, d) / d**0.5
    q = center + spread * q / d**0.5
    filters = draw(heads, 1, 3, 3) / 9
    return [x.to(dtype) for x in (q, landmarks, v, filters, grad)]


def results(q, landmarks, v, filters, grad, grid, form, normalised=False, iters=20, factor=1.0, scale=0.8):
    """Output of one form of the core and its gradients, by name."""
    leaves = [x.detach().clone().requires_grad_() for x in (q, landmarks, v, filters)]
    if form == "kernels":
        from soft.attention.kernels.operator import kernel_attention

        out = kernel_attention(*leaves, grid, scale, iters, normalised, factor)
    else:
        out = fused_attention(
            *leaves, grid, scale, lambda a: fast_inverse(a, "newton", iters, normalised), normalised, factor
        )
    return dict(zip(NAMES, [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))], strict=True))


def assert_as_exact_as_pytorch(tensors, grid, least=1e-5, **options):
    """The error against float64 is a few roundings, or at most four times that of PyTorch's form in float32."""
    expected = results(*(x.double() for x in tensors), grid, "torch", **options)
    torch_form = results(*tensors, grid, "torch", **options)
    found = results(*tensors, grid, "kernels", **options)
    for name, theirs in expected.items():
        assert found[name].shape == theirs.shape
        assert torch.isfinite(found[name]).all()
        rounding = (torch_form[name] - theirs).norm()
        assert (found[name] - theirs).norm() <= max(least * theirs.norm(), 4 * rounding), name


@VARIANTS
@pytest.mark.parametrize("m", [1, 7, 16, slow(49), slow(64)])
def test_any_number_of_landmarks(m, normalised):
    """Fewer steps of Newton's do, except at the usual size: test_matrices.py has all of them at any size."""
    iters = 20 if m == 49 else 6
    assert_as_exact_as_pytorch(inputs((9, 8), m=m, d=32), (9, 8), normalised=normalised, iters=iters)


@pytest.mark.parametrize("grid", [(1, 1), (1, 63), (5, 13), (23, 24)], ids=str)
def test_any_number_of_tokens(grid):
    """Of blocks of 64 tokens and spans of 512, the last one may be short."""
    assert_as_exact_as_pytorch(inputs(grid), grid)


@pytest.mark.parametrize("d", [1, 8, 20, 64])
def test_any_width_of_a_head(d):
    assert_as_exact_as_pytorch(inputs(d=d), (5, 7))


@VARIANTS
@pytest.mark.parametrize("iters", [1, 6])
def test_truncated_iterates_and_a_global_factor(normalised, iters):
    assert_as_exact_as_pytorch(inputs(spread=0.7), (5, 7), normalised=normalised, iters=iters, factor=0.1)


@VARIANTS
@pytest.mark.parametrize("spread", [slow(0.0), 1e-3, slow(3e-2)])
def test_near_coincident_landmarks(spread, normalised):
    assert_as_exact_as_pytorch(inputs(m=49, spread=spread, center=0.2), (5, 7), normalised=normalised)


@VARIANTS
def test_whole_modules_are_the_reference(normalised):
    torch.manual_seed(0)
    attention = NormalisedSoftAttention if normalised else SoftAttention
    module = attention(24, 3, (7, 10), 5, num_landmarks=16, global_scale=5.0, kernels="triton")
    q, v = torch.randn(2, 2, 3, 70, 8).requires_grad_().unbind()
    sampler = module.landmarks
    weights = reference.Weights(sampler.conv.weight, sampler.norm.weight, sampler.norm.bias, module.local.weight)
    weight = torch.randn(2, 3, 70, 8)

    def gradients(double):
        leaves = [x.detach().to(torch.float64 if double else torch.float32).requires_grad_() for x in (q, v, *weights)]
        if double:
            given = reference.Weights(*leaves[2:])
            x = reference.attend(*leaves[:2], (7, 10), given, sampler.stride, 20, normalised, None, 5.0)
            return [x, *torch.autograd.grad(x, leaves, weight.double())]
        x = module.attend(*leaves[:2], (7, 10))
        wanted = [*leaves[:2], sampler.conv.weight, sampler.norm.weight, sampler.norm.bias, module.local.weight]
        return [x, *torch.autograd.grad(x, wanted, weight)]

    errors = [relative_error(ours, theirs) for ours, theirs in zip(gradients(False), gradients(True), strict=True)]
    assert max(errors) < 2e-5, errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, slow(torch.float16)], ids=str)
def test_half_precision_inputs_are_computed_in_float32(dtype):
    q, landmarks, v, filters, grad = inputs()
    half = [q.to(dtype), landmarks, v.to(dtype), filters, grad]
    found = results(*half, (5, 7), "kernels")
    expected = results(*(x.float() for x in half), (5, 7), "kernels")
    assert (found["out"].dtype, found["q"].dtype, found["v"].dtype) == (torch.float32, dtype, dtype)
    for name, theirs in expected.items():
        torch.testing.assert_close(found[name], theirs.to(found[name].dtype))


def test_any_layout_of_the_inputs_and_a_gradient_without_strides():
    q, landmarks, v, filters, grad = inputs(batch=2)
    expected = results(q, landmarks, v, filters, torch.ones_like(grad), (5, 7), "kernels")
    heads_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, v)]
    channels_apart = [x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for x in (q, v)]
    for q_view, v_view in (heads_first, channels_apart):
        found = results(q_view, landmarks, v_view, filters, torch.ones(()).expand(grad.shape), (5, 7), "kernels")
        for name, theirs in expected.items():
            torch.testing.assert_close(found[name], theirs)


def test_an_image_does_not_depend_on_its_neighbours():
    tensors = inputs((23, 24), batch=2)
    alone = [x[:1] if len(x) == 2 and x.dim() == 4 and x.shape[1:] != (1, 3, 3) else x for x in tensors]
    together, single = (results(*given, (23, 24), "kernels") for given in (tensors, alone))
    for name in ("out", "q", "landmarks", "v"):
        assert torch.equal(together[name][:1], single[name])


def test_the_n_by_m_kernel_is_not_kept():
    q, landmarks, v, filters, _ = inputs((20, 20), m=49)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        from soft.attention.kernels.operator import kernel_attention

        kernel_attention(q.requires_grad_(), landmarks, v, filters, (20, 20), 1.0)
    assert max(sizes) == q.numel() < 400 * 49 * 2
    assert len(sizes) == 7


def test_frozen_filters_get_no_gradient():
    from soft.attention.kernels.operator import kernel_attention

    q, landmarks, v, filters, _ = inputs()
    kernel_attention(q.requires_grad_(), landmarks, v, filters, (5, 7), 1.0).sum().backward()
    assert filters.grad is None
    assert q.grad.any()
