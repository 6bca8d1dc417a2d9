import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soft.attention import ATTENTIONS, UnknownOptionError, attention_options, create_attention
from soft.errors import SettingError
from tests.golden import relative_error

EVERY = pytest.mark.parametrize("name", list(ATTENTIONS))
WITH_LOCAL = ("soft", "soft_norm", "nystromformer", "none")
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def small(name, grid=(8, 6), width=32):
    """Attention `name` with two heads, and nine landmarks where it has any."""
    torch.manual_seed(0)
    landmarks = {"num_landmarks": 9} if "num_landmarks" in attention_options(name) else {}
    return create_attention(name, width, 2, grid, 3, **landmarks)


@EVERY
@pytest.mark.parametrize("grid", [(8, 6), (11, 7), (4, 5)], ids=str)
def test_every_attention_fits_the_socket(name, grid):
    """forward(x (B, N, C), grid (H, W)) -> (B, N, C), with a gradient for every parameter, on any grid."""
    attention = small(name)
    x = torch.randn(2, math.prod(grid), 32, requires_grad=True)
    out = attention(x, grid)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in (x, *attention.parameters()))


@EVERY
def test_every_attention_is_built_without_options(name):
    attention = create_attention(name, 32, 2, (8, 8), 3)
    assert attention(torch.randn(2, 64, 32), (8, 8)).shape == (2, 64, 32)


@EVERY
@pytest.mark.parametrize("grid", [(8, 6), (11, 7)], ids=str)
def test_rows_of_the_attention_map_times_v_are_the_output_without_a_local_convolution(name, grid):
    attention = small(name).double()
    with torch.no_grad():
        for parameter in (getattr(attention, conv).weight for conv in ("local", "conv") if hasattr(attention, conv)):
            parameter.zero_()
        nn.init.eye_(attention.proj.weight)
        nn.init.zeros_(attention.proj.bias)
    x, queries = 2 * torch.randn(2, math.prod(grid), 32, dtype=torch.float64), [0, 20, math.prod(grid) - 1, 20]
    rows = attention.attention_map(x, grid, queries)
    assert rows.shape == (2, 2, 4, math.prod(grid))
    v = attention.v(x) if hasattr(attention, "v") else attention.qkv(x).chunk(3, dim=-1)[2]
    found = (rows @ v.view(2, -1, 2, 16).transpose(1, 2)).transpose(1, 2).flatten(2)
    expected = attention(x, grid)[:, queries]
    assert (found - expected).norm() <= 1e-10 * expected.norm()
    assert rows.any() == (name != "none")


@EVERY
@pytest.mark.parametrize("grid", [(8, 6), (11, 7)], ids=str)
def test_branches_are_the_output_with_and_without_a_local_convolution(name, grid):
    attention = small(name).double()
    with torch.no_grad():
        nn.init.eye_(attention.proj.weight)
        nn.init.zeros_(attention.proj.bias)
    x = 2 * torch.randn(2, math.prod(grid), 32, dtype=torch.float64)
    terms = attention.branches(x, grid)
    assert not any(term.requires_grad for term in terms)
    spread, local = (term.transpose(1, 2).flatten(2) for term in terms)
    torch.testing.assert_close(spread + local, attention(x, grid))
    assert local.any() == (name in WITH_LOCAL)
    assert spread.any() == (name != "none")
    with torch.no_grad():
        for parameter in (getattr(attention, conv).weight for conv in ("local", "conv") if hasattr(attention, conv)):
            parameter.zero_()
    torch.testing.assert_close(spread, attention(x, grid))


@EVERY
@HALF
def test_branches_under_autocast_and_in_half_precision_are_those_in_float32(name, dtype):
    attention, x = small(name), torch.randn(1, 48, 32)
    expected = attention.branches(x, (8, 6))
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(attention.branches(x, (8, 6)), expected)
    for found, term in zip(attention.to(dtype).branches(x.to(dtype), (8, 6)), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, term, rtol=0, atol=0.1 * term.abs().max().item())


@EVERY
@HALF
def test_attention_maps_under_autocast_and_in_half_precision_are_those_in_float32(name, dtype):
    attention, x = small(name), torch.randn(1, 48, 32)
    expected = attention.attention_map(x, (8, 6), [5])
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(attention.attention_map(x, (8, 6), [5]), expected)
    rows = attention.to(dtype).attention_map(x.to(dtype), (8, 6), [5])
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=0.2 * expected.abs().max().item())


@EVERY
def test_an_image_does_not_depend_on_its_neighbours(name):
    """It is the same to float64 rounding beside an image a thousand times as large and one of equal tokens."""
    attention, x = small(name).double(), torch.randn(3, 48, 32, dtype=torch.float64)
    x[1] *= 1000
    x[2] = 1
    assert relative_error(attention(x, (8, 6))[0], attention(x[:1], (8, 6))[0]) < 1e-12


@EVERY
@HALF
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_autocast_gives_finite_outputs_and_gradients(name, dtype, scale):
    """Queries and keys reach 100 on a stage-1 grid."""
    attention = small(name, (56, 56), 64)
    with torch.no_grad():
        for parameter in ("q.weight", "qkv.weight"):
            if parameter in dict(attention.named_parameters()):
                weight = attention.get_parameter(parameter)
                weight.copy_(torch.eye(64).repeat(len(weight) // 64, 1))
    x = torch.randn(1, 3136, 64)
    x = (scale * x / x.abs().max()).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = attention(x, (56, 56))
    if scale == 1:
        assert relative_error(out, attention(x, (56, 56))) < (2e-3 if dtype == torch.float16 else 2e-2)
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    for parameter in (x, *attention.parameters()):
        assert torch.isfinite(parameter.grad).all()


@EVERY
@HALF
def test_a_model_of_half_precision_weights_keeps_its_type(name, dtype):
    out = small(name).to(dtype)(torch.randn(1, 48, 32, dtype=dtype), (8, 6))
    assert out.dtype == dtype


def flops(name: str, side: int) -> int:
    with torch.device("meta"):
        attention, x = small(name, (side, side)), torch.randn(1, side * side, 32)
    with FlopCounterMode(display=False) as counter:
        attention(x, (side, side))
    return counter.get_total_flops()


@EVERY
def test_cost_is_linear_in_the_tokens_but_for_softmax(name):
    """Floating-point operations are counted at N, 4N and 16N tokens."""
    once, four, sixteen = (flops(name, side) for side in (12, 24, 48))
    growth = (sixteen - four) / (four - once)
    if name == "softmax":
        assert growth > 12
        assert sixteen > 4 * flops("soft", 48)
    else:
        assert growth == pytest.approx(4)


@EVERY
def test_compiles_without_a_graph_break(name):
    attention, x = small(name), torch.randn(2, 48, 32)
    torch._dynamo.reset()
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, (8, 6)), attention(x, (8, 6)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x, (8, 6)), attention(x, (8, 6)))


@EVERY
@pytest.mark.filterwarnings("ignore:torch.ao.quantization")
def test_linear_maps_may_be_quantised(name):
    """PyTorch's quantised linear maps have no parameters, and a method of the name `weight`."""
    attention, x, grid = small(name).eval(), torch.randn(2, 48, 32), (8, 6)
    quantised = torch.ao.quantization.quantize_dynamic(attention, {nn.Linear}, dtype=torch.qint8)
    plain, found = ([m(x, grid), *m.branches(x, grid), m.attention_map(x, grid, [3])] for m in (attention, quantised))
    assert not isinstance(quantised.proj, nn.Linear)
    for one, other in zip(plain, found, strict=True):
        assert (one - other).norm() <= 0.05 * one.norm()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError, match=r"attention='sotf' is not known; it is one of soft, soft_norm, softmax"):
        create_attention("sotf", 32, 2, (8, 8), 3)


def test_an_unknown_option_lists_the_known_ones_and_is_a_type_error_too():
    with pytest.raises(UnknownOptionError, match="'landmarks'; its options are num_landmarks, newton_iters") as error:
        create_attention("soft", 32, 2, (8, 8), 3, landmarks=9)
    assert isinstance(error.value, SettingError)
    assert isinstance(error.value, TypeError)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("soft", "landmark_gains", r"landmark_gain, global_scale, kernels\. Did you mean landmark_gain\?"),
        ("none", "num_landmarks", r"it takes none\.$"),
        ("performer", "num_feature", r"its options are num_features\. Did you mean num_features\?"),
        ("nystromformer", "pinv_iterations", r"conv_kernel, pinv_start\. Did you mean pinv_iters\?"),
        ("softmax", "num_landmarks", r"it takes none\.$"),
        ("linformer", "newton_iters", r"its options are num_landmarks\.$"),
    ],
)
def test_an_option_of_another_attention_is_an_error_that_names_the_nearest(name, option, message):
    with pytest.raises(UnknownOptionError, match=message):
        create_attention(name, 32, 2, (8, 8), 3, **{option: 9})
