import pytest
import timm
import torch
import torch.nn.functional as F

from soft.attention import ATTENTIONS, create_attention
from soft.attention.softmax import SoftmaxAttention
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


class Gated(SoftmaxAttention):
    """An attention of one's own, with a linear map without a bias and one with a start of its own."""

    def __init__(self, dim, num_heads, grid, conv_size):
        super().__init__(dim, num_heads, grid, conv_size)
        self.mix, self.gate = torch.nn.Linear(dim, dim, bias=False), torch.nn.Linear(dim, 1)

    def init_weights(self):
        torch.nn.init.constant_(self.gate.weight, 3)
        torch.nn.init.constant_(self.gate.bias, -4)


@pytest.mark.parametrize("name", ["soft_pico", "soft_encoder"])
def test_an_attention_of_ones_own_has_the_last_word_on_its_start(name, monkeypatch):
    monkeypatch.setitem(ATTENTIONS, "gated", Gated)
    attn = timm.create_model(name, attention="gated").stages[0].blocks[0].attn
    assert attn.mix.weight.abs().max() < 0.2
    assert attn.mix.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (attn.gate.weight == 3).all()
    assert attn.gate.bias.item() == -4
    assert not attn.proj.bias.any()
