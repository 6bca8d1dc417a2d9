"""The flat encoder: every option, with every attention."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F

from soft.attention import ATTENTIONS
from soft.data.tasks.recall import ASK, Recall
from soft.errors import SettingError
from soft.models.encoder import SoftEncoder
from soft.models.factory import create_from_config

TAKE_LANDMARKS = ("soft", "soft_norm", "nystromformer", "linformer")


def encoder(**changes) -> SoftEncoder:
    torch.manual_seed(0)
    attention = changes.get("attention", "soft")
    landmarks = {"num_landmarks": 4} if attention in TAKE_LANDMARKS else {}
    return timm.create_model("soft_encoder", **{"img_size": 4, "embed_dim": 16, **landmarks, **changes})


def tokens(model: SoftEncoder, batch: int = 3) -> torch.Tensor:
    return torch.randint(2, 10, (batch, model.in_chans, *model.img_size), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("local_kernel", [0, 3])
def test_every_attention_learns_from_integers(attention, local_kernel):
    model = encoder(attention=attention, local_kernel=local_kernel, num_classes=5)
    logits = model(tokens(model))
    assert logits.shape == (3, 5)
    F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
    assert model.embedding.tables[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_without_the_local_convolution_only_the_global_term_is_left(attention):
    without = encoder(attention=attention, local_kernel=0).eval()
    block = without.stages[0].blocks[0].attn
    x = torch.randn(2, 16, 16)
    expected = block.attention_map(x, (4, 4), range(16)) @ block.v(x).view(2, 16, 2, 8).transpose(1, 2)
    torch.testing.assert_close(block(x, (4, 4)), block.proj(expected.transpose(1, 2).flatten(2)), rtol=1e-4, atol=1e-5)
    with_it = encoder(attention=attention, local_kernel=3).stages[0].blocks[0].attn
    assert with_it.local.weight.shape[-2:] == (3, 3)


def test_a_convolution_left_out_stays_out_in_training():
    model = encoder(local_kernel=0, num_classes=3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(model(tokens(model)), torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    assert all(not block.attn.local.weight.any() for block in model.stages[0].blocks)


def test_reading_at_the_cell_that_asks():
    model = encoder(global_pool="ask").eval()
    x = tokens(model)
    x[0, 0, 2, 1] = x[1, 0, 0, 0] = x[2, 0, 3, 3] = ASK
    features = model.forward_features(x)
    read = model.forward_head(features, x, pre_logits=True)
    assert torch.equal(read, torch.stack([features[0, 9], features[1, 0], features[2, 15]]))
    torch.testing.assert_close(model(x), model.head(read))
    with pytest.raises(SettingError, match="source"):
        model.forward_head(features)


def test_the_mean_leaves_padding_out():
    model = encoder(img_size=(1, 6), global_pool="avg", num_landmarks=1).eval()
    x = torch.tensor([[5, 7, 3, 0, 0, 0], [4, 4, 4, 4, 4, 4], [0, 0, 0, 0, 0, 0]])
    features = model.forward_features(x)
    read = model.forward_head(features, x, pre_logits=True)
    torch.testing.assert_close(read[0], features[0, :3].mean(0))
    torch.testing.assert_close(read[1], features[1].mean(0))
    assert read[2].isfinite().all()


def test_a_class_token_stands_before_the_sequence():
    model = encoder(attention="softmax", layout="sequence", global_pool="token").eval()
    x = tokens(model)
    features = model.forward_features(x)
    assert features.shape == (3, 17, 16)
    assert model.pos_embed.shape == (1, 17, 16)
    assert torch.equal(model.forward_head(features, x, pre_logits=True), features[:, 0])
    assert model.no_weight_decay() == {"cls_token"}
    with pytest.raises(SettingError, match="layout=sequence"):
        encoder(global_pool="token")


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_sequence_is_a_grid_of_one_row(attention):
    seen = []
    model = encoder(attention=attention, layout="sequence")
    model.stages[0].blocks[0].attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    assert model(tokens(model)).shape == (3, 10)
    assert seen == [(1, 16)]


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
@pytest.mark.parametrize("num_landmarks", [1, 4, 5])
@pytest.mark.parametrize("sampling", ["conv", "avgpool", "random", "first"])
def test_landmarks_of_a_sequence(attention, num_landmarks, sampling):
    model = encoder(attention=attention, layout="sequence", num_landmarks=num_landmarks, sampling=sampling)
    sampler = model.stages[0].blocks[0].attn.landmarks
    landmarks = sampler(torch.randn(2, 2, 16, 8), (1, 16))
    assert landmarks.shape == (2, 2, num_landmarks, 8)
    assert model(tokens(model)).shape == (3, 10)


def test_sequences_come_as_sequences():
    model = encoder(img_size=(1, 16), attention="softmax").eval()
    x = tokens(model)
    torch.testing.assert_close(model(x.flatten(1)), model(x))
    with pytest.raises(SettingError, match="img_size"):
        model(x[..., :-1])


@pytest.mark.parametrize("pos_embed", ["learned", "sincos2d", "none"])
def test_positions(pos_embed):
    """Without a convolution and position embedding, a permuted input has the same mean."""
    model = encoder(attention="softmax", pos_embed=pos_embed, local_kernel=0).eval()
    if pos_embed == "learned":
        torch.nn.init.normal_(model.pos_embed)
    x = tokens(model)
    permuted = x.flatten(2)[..., torch.randperm(16)].view(x.shape)
    same = torch.allclose(model(x), model(permuted), atol=1e-6)
    assert same == (pos_embed == "none")
    assert ("pos_embed" in dict(model.named_parameters())) == (pos_embed == "learned")
    assert "pos_embed" not in model.state_dict() or pos_embed == "learned"


def test_sincos2d_tells_rows_and_columns_apart():
    model = encoder(pos_embed="sincos2d")
    grid = model.pos_embed.view(4, 4, 16)
    assert len(grid.flatten(0, 1).unique(dim=0)) == 16
    # The distance between neighbours is the same anywhere along a row and along a column.
    steps = (grid[:, 1:] - grid[:, :-1]).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps))
    rows = (grid[1:] - grid[:-1]).norm(dim=-1)
    torch.testing.assert_close(rows, rows[:1, :1].expand_as(rows))


def test_grey_values_are_mapped_linearly():
    model = encoder(embedding="linear", vocabulary=256).eval()
    x = torch.randint(256, (3, 1, 4, 4))
    torch.testing.assert_close(model(x), model(x / 127.5 - 1))
    ends = model.embedding(torch.tensor([0, 255]).view(2, 1, 1, 1))
    weight, bias = model.embedding.proj.weight.squeeze(1), model.embedding.proj.bias
    torch.testing.assert_close(ends.squeeze(1), torch.stack([bias - weight, bias + weight]))
    image = encoder(embedding="linear", in_chans=3)
    assert image(torch.randn(2, 3, 4, 4)).shape == (2, 10)


def test_fields_are_added():
    model = encoder(in_chans=2, vocabulary=12)
    x = tokens(model)
    first, second = (table.weight[x[:, i].flatten(1)] for i, table in enumerate(model.embedding.tables))
    torch.testing.assert_close(model.embedding(x), first + second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(depth=0), "depth"),
        (dict(num_heads=3), "num_heads=3"),
        (dict(embedding="bag"), "table, linear"),
        (dict(pos_embed="rotary"), "learned, sincos2d, none"),
        (dict(layout="tree"), "grid, sequence"),
        (dict(global_pool="max"), "ask, token, avg"),
        (dict(global_pool="ask", embedding="linear"), "embedding=linear"),
        (dict(local_kernel=4), "odd"),
        (dict(local_kernel=-1), "local_kernel=-1"),
        (dict(vocabulary=1), "vocabulary=1"),
        (dict(drop_rate=1.0), "drop_rate"),
        (dict(pos_embed="sincos2d", embed_dim=18), "embed_dim=18"),
        (dict(num_landmarks=3), "square"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(arguments, words):
    with pytest.raises(SettingError, match=words):
        encoder(**arguments)


def test_sizes():
    model = encoder(depth=3, embed_dim=32, num_heads=4, mlp_ratio=2, drop_path_rate=0.2, drop_rate=0.1)
    (stage,) = model.stages
    assert [block.drop.p for block in stage.blocks] == pytest.approx([0, 0.1, 0.2])
    assert all(block.attn.num_heads == 4 and block.mlp.fc1.out_features == 64 for block in stage.blocks)
    assert model.head_drop.p == 0.1


def test_checkpointing_changes_nothing():
    plain = encoder(num_classes=3).train()
    checked = copy.deepcopy(plain)
    checked.set_grad_checkpointing()
    x = tokens(plain)
    for model in (plain, checked):
        F.cross_entropy(model(x), torch.tensor([0, 1, 2])).backward()
    for one, other in zip(plain.parameters(), checked.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization")
def test_it_runs_with_quantised_linear_maps():
    model = encoder(embedding="linear", num_classes=5).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    assert (quantised(tokens(model)) - model(tokens(model))).norm() <= 0.1 * model(tokens(model)).norm()


def test_there_are_no_feature_maps():
    with pytest.raises(SettingError, match=r"for the pyramids, such as soft_pico; .* forward_features gives"):
        encoder(features_only=True)


def test_timms_interface():
    model = encoder(num_classes=7)
    assert model.get_classifier() is model.head
    model.reset_classifier(3)
    assert model(tokens(model)).shape == (3, 3)
    model.reset_classifier(0, "ask")
    assert model(tokens(model)).shape == (3, 16)
    with pytest.raises(SettingError, match="class token"):
        model.reset_classifier(3, "token")
    assert encoder(dtype=torch.float64)(tokens(model)).dtype == torch.float64
    matcher = model.group_matcher()
    assert set(matcher) == {"stem", "blocks"}
    assert "soft_encoder" in timm.list_models("soft_*")


def test_a_configuration_builds_it():
    config = {
        "name": "soft_encoder",
        "in_chans": 2,
        "global_pool": "ask",
        "depth": 1,
        "attention": {"attention": "soft", "num_landmarks": 4},
        "grad_checkpointing": True,
        "recipe": {"lr": 1},
    }
    model = create_from_config(config, num_classes=10, img_size=(8, 8))
    task = Recall(4)
    assert model(torch.stack([task[i][0] for i in range(4)])).shape == (4, task.num_classes)
    assert model.stages[0].grad_checkpointing


def test_the_same_seed_gives_the_same_weights():
    assert all(torch.equal(a, b) for a, b in zip(encoder().parameters(), encoder().parameters(), strict=True))


def test_the_start_is_the_alive_one_unless_another_is_asked_for():
    def gain(**changes) -> float:
        return encoder(embed_dim=64, **changes).stages[0].blocks[0].attn.landmarks.norm.weight[0].item()

    assert gain() == gain(landmark_gain="auto") == pytest.approx(2 / 32**0.5)
    assert gain(landmark_gain=1.0) == 1.0
