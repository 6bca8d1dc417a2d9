import pytest
import torch
from nystrom_attention import NystromAttention as PackageAttention
from nystrom_attention.nystrom_attention import moore_penrose_iter_pinv
from torch import nn

from soft.attention.nystromformer import NystromAttention, iterative_pinv
from soft.attention.softmax import SoftmaxAttention
from soft.errors import SettingError
from tests.attention.packages import PRECISE, errors
from tests.golden import relative_error

NAMES = {
    "to_qkv.weight": ("qkv.weight", -1),
    "to_out.0.weight": ("proj.weight", -1),
    "to_out.0.bias": ("proj.bias", -1),
    "res_conv.weight": ("conv.weight", -1),
}


def pair(heads, grid, dtype, **options):
    torch.manual_seed(0)
    ours = NystromAttention(32 * heads, heads, grid, 3, **options).to(dtype)
    nn.init.zeros_(ours.qkv.bias)  # the package has none
    same = {"num_landmarks": "num_landmarks", "pinv_iters": "pinv_iterations", "conv_kernel": "residual_conv_kernel"}
    options = {same[name]: value for name, value in options.items() if name in same}
    theirs = PackageAttention(32 * heads, dim_head=32, heads=heads, **{"num_landmarks": 49, **options}).to(dtype)
    return ours, theirs


@pytest.mark.parametrize("dtype", list(PRECISE), ids=str)
@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ((14, 14), {}),
        ((8, 8), {"num_landmarks": 16, "pinv_iters": 3}),
        ((8, 8), {"num_landmarks": 9}),  # 8 zeros in front
        ((7, 5), {"num_landmarks": 34, "conv_kernel": 5}),  # as many zeros as a segment and more
        ((3, 3), {"num_landmarks": 16}),  # more landmarks than tokens
    ],
    ids=str,
)
def test_equals_the_package(grid, options, scale, dtype):
    ours, theirs = pair(2, grid, dtype, pinv_start="batch", **options)
    found = errors(ours, theirs, NAMES, scale * torch.randn(3, grid[0] * grid[1], 64, dtype=dtype), grid)
    assert max(found.values()) < PRECISE[dtype], found


@pytest.mark.parametrize("dtype", list(PRECISE), ids=str)
def test_equals_the_package_by_default_where_there_is_one_matrix(dtype):
    ours, theirs = pair(1, (8, 8), dtype, num_landmarks=9)
    found = errors(ours, theirs, NAMES, torch.randn(1, 64, 32, dtype=dtype), (8, 8))
    assert max(found.values()) < PRECISE[dtype], found


def kernels(scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(3, 2, 9, 9, generator=generator, dtype=torch.float64)).softmax(-1)


@pytest.mark.parametrize("iters", [1, 6])
def test_pseudo_inverse_is_the_packages_for_each_matrix_and_for_the_batch(iters):
    a = kernels(1)
    torch.testing.assert_close(iterative_pinv(a, iters, "batch"), moore_penrose_iter_pinv(a, iters))
    for i in range(3):
        for h in range(2):
            expected = moore_penrose_iter_pinv(a[i : i + 1, h], iters)[0]
            torch.testing.assert_close(iterative_pinv(a, iters)[i, h], expected)


def test_pseudo_inverse_converges():
    a = kernels(3)
    assert relative_error(iterative_pinv(a, 20), torch.linalg.inv(a)) < 1e-9


def test_as_many_landmarks_as_tokens_is_softmax_attention():
    softmax, x = SoftmaxAttention(64, 2, (3, 3), 3).double(), torch.randn(2, 9, 64).double()
    attention = NystromAttention(64, 2, (3, 3), 3, num_landmarks=9, pinv_iters=40).double()
    attention.load_state_dict(softmax.state_dict() | {"conv.weight": torch.zeros(2, 2, 33, 1)[:, :1]})
    torch.testing.assert_close(attention(x, (3, 3)), softmax(x, (3, 3)))


@pytest.mark.parametrize("heads", [1, 2, 10])
@pytest.mark.parametrize("tokens", [1, 9, 16, 20, 64, 196, 784])
def test_convolution_and_its_gradients_are_right_in_float32_also_where_the_filter_is_wider_than_the_sequence(
    tokens, heads
):
    torch.manual_seed(0)
    attention = NystromAttention(8 * heads, heads, (1, tokens), 3, num_landmarks=1)
    v, weight = torch.randn(2, 3, heads, tokens, 8).unbind()
    found = []
    for dtype in (torch.float64, torch.float32):
        attention, value = attention.to(dtype), v.to(dtype).requires_grad_()
        attention.zero_grad()
        if dtype == torch.float64:  # shifted sums, without any convolution
            padded = nn.functional.pad(value, (0, 0, 16, 16))
            filters = attention.conv.weight[:, 0, :, 0]
            out = sum(filters[:, k, None, None] * padded[:, :, k : k + tokens] for k in range(33))
        else:
            out = attention.convolve(value)
        (out * weight.to(dtype)).sum().backward()
        found.append((out, value.grad, attention.conv.weight.grad))
    assert max(relative_error(ours, exact) for exact, ours in zip(*found, strict=True)) < PRECISE[torch.float32]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_landmarks": 0}, "num_landmarks=0 has to be a whole number of at least 1"),
        ({"pinv_iters": 0}, "pinv_iters=0 has to be a whole number of at least 1"),
        ({"conv_kernel": 32}, "conv_kernel=32 has to be odd, such as 33"),
        ({"pinv_start": "all"}, r"pinv_start='all' is not known; it is one of matrix, batch\."),
    ],
    ids=str,
)
def test_unfit_options_are_errors(options, message):
    with pytest.raises(SettingError, match=message):
        NystromAttention(32, 1, (8, 8), 3, **options)
