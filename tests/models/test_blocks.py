import torch
import torch.nn.functional as F

from soft.attention import create_attention
from soft.models.blocks import SoftBlock, resize_position_embedding
from soft.models.mlp import LeanMlp


def test_resizing_is_bilinear_and_leaves_prefix_tokens():
    embedding = torch.randn(1, 1 + 4 * 6, 5)
    resized = resize_position_embedding(embedding, (4, 6), (8, 3))
    grid = embedding[:, 1:].transpose(1, 2).reshape(1, 5, 4, 6)
    expected = F.interpolate(grid, size=(8, 3), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(resized[:, 1:], expected)
    torch.testing.assert_close(resized[:, 0], embedding[:, 0])


def test_the_same_grid_is_left_alone():
    embedding = torch.randn(1, 24, 5)
    assert resize_position_embedding(embedding, (4, 6), (4, 6)) is embedding


def test_block_is_post_norm_and_drops_elements():
    """SPEC 3: Y = LN(X + drop(attn(X))); Z = LN(Y + drop(MLP(Y))) with element-wise dropout."""
    attn = create_attention("soft", 32, 1, (4, 4), 3, num_landmarks=4)
    block = SoftBlock(32, attn, LeanMlp(32, 128, "tanh"), drop=0.5)
    x = torch.randn(2, 16, 32)
    y = F.layer_norm(x + block.attn(x, (4, 4)), [32], eps=1e-5)
    hidden = F.gelu(F.linear(y, block.mlp.fc1.weight, block.mlp.fc1.bias), approximate="tanh")
    z = F.layer_norm(y + F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias), [32], eps=1e-5)
    torch.testing.assert_close(block.eval()(x, (4, 4)), z)

    block.mlp = torch.nn.Identity()
    block.norm1 = torch.nn.Identity()
    block.norm2 = torch.nn.Identity()
    block.attn.forward = lambda x, grid: torch.ones_like(x)
    dropped = block.train()(torch.zeros(2, 16, 32), (4, 4))
    # Y is 0 or 2 by element, and Z is Y plus 0 or 2·Y: a whole dropped path would give one value per image.
    assert set(dropped.unique().tolist()) == {0.0, 2.0, 6.0}
    assert len(dropped[0, 0].unique()) > 1
