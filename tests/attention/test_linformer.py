import pytest
import torch
from linformer import LinformerSelfAttention
from torch import nn

from soft.attention.linformer import LinformerAttention
from soft.errors import SettingError
from tests.attention.packages import PRECISE, errors

NAMES = {
    "to_q.weight": ("qkv.weight", 0),
    "to_k.weight": ("qkv.weight", 1),
    "to_v.weight": ("qkv.weight", 2),
    "proj_k": ("projection", -1),
    "proj_v": ("projection", -1),
    "to_out.weight": ("proj.weight", -1),
    "to_out.bias": ("proj.bias", -1),
}


@pytest.mark.parametrize("dtype", list(PRECISE), ids=str)
@pytest.mark.parametrize(("grid", "landmarks"), [((8, 8), 9), ((7, 5), 35), ((14, 14), 49), ((2, 2), 6)], ids=str)
def test_equals_the_package(grid, landmarks, dtype):
    torch.manual_seed(0)
    tokens = grid[0] * grid[1]
    ours = LinformerAttention(64, 2, grid, 3, landmarks).to(dtype)
    nn.init.zeros_(ours.qkv.bias)  # the package has none
    theirs = LinformerSelfAttention(64, tokens, k=landmarks, heads=2).to(dtype)
    found = errors(ours, theirs, NAMES, torch.randn(3, tokens, 64, dtype=dtype), grid)
    assert max(found.values()) < PRECISE[dtype], found


def test_the_projection_starts_as_the_packages():
    projection = LinformerAttention(32, 1, (16, 16), 3, 25).projection
    assert projection.shape == (256, 25)
    assert projection.abs().max().item() == pytest.approx(25**-0.5, rel=1e-2)
    assert projection.mean().abs() < 0.01


@pytest.mark.parametrize("grid", [(16, 16), (4, 4), (24, 8)], ids=str)
def test_on_another_grid_projected_keys_keep_their_magnitude(grid):
    """Where all tokens are equal, nothing but the sum of E over the tokens counts."""
    attention = LinformerAttention(32, 1, (8, 8), 3, 4).double()
    token = torch.randn(32, dtype=torch.float64)
    resized = attention(token.expand(1, grid[0] * grid[1], 32), grid)
    torch.testing.assert_close(resized[:, 0], attention(token.expand(1, 64, 32), (8, 8))[:, 0])


def test_on_another_grid_the_projection_is_interpolated():
    attention = LinformerAttention(32, 1, (1, 2), 3, 1).double()
    with torch.no_grad():
        attention.projection.copy_(torch.tensor([[0.0], [8.0]]))
    assert attention.projection_on((1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_no_landmarks_is_an_error():
    with pytest.raises(SettingError, match="num_landmarks=0 has to be a whole number of at least 1"):
        LinformerAttention(32, 1, (8, 8), 3, 0)
