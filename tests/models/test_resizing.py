"""Weights of one input size or number of landmarks in a model of another."""

import logging

import pytest
import timm
import torch
import torch.nn.functional as F

import soft
from soft.errors import SettingError
from soft.models.checkpoints import load_weights
from soft.models.resizing import find_grids, find_num_landmarks, resize_to_model
from tests.models.shells import shell


def pico(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("soft_pico", num_classes=10, **options).eval()


def shapes(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict in the right shapes that takes no memory."""
    return {key: torch.zeros(()).expand(value.shape) for key, value in model.state_dict().items()}


def first_grid(model: torch.nn.Module, other: torch.nn.Module, **options: object) -> tuple[int, int]:
    """The grid of the first stage that `other` finds the weights of `model` to belong to."""
    return find_grids(shapes(model), other, **options)[0]


@pytest.mark.parametrize("size", [64, (64, 32), (32, 48), 28], ids=str)
def test_another_input_size_is_loaded_with_a_warning(size, caplog):
    """Position embeddings become those that the small model uses on inputs of that size."""
    model, larger = pico(sampling="avgpool"), pico(img_size=size, sampling="avgpool")
    with caplog.at_level(logging.WARNING):
        larger.load_state_dict(model.state_dict())
    grid = larger.stages[0].grid
    assert caplog.messages == [
        "The weights were resized to fit the model: position embeddings from 16x16 to "
        f"{grid[0]}x{grid[1]} tokens in the first stage."
    ]
    for stage, resized in zip(model.stages, larger.stages, strict=True):
        prefix = stage.pos_embed.shape[1] - stage.grid[0] * stage.grid[1]
        old = stage.pos_embed[:, prefix:].mT.unflatten(-1, stage.grid)
        expected = F.interpolate(old, resized.grid, mode="bilinear", align_corners=False).flatten(2).mT
        torch.testing.assert_close(resized.pos_embed, torch.cat([stage.pos_embed[:, :prefix], expected], 1))


def test_nothing_is_said_where_nothing_is_resized(caplog):
    pico().load_state_dict(pico().state_dict())
    assert not caplog.messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 384}, "8x8, 4x4, 2x2 to 18x18, 12x12, 6x6 tokens, which num_landmarks=144 would leave as they"),
        ({"num_landmarks": 25}, "8x8, 4x4, 2x2 to 12x12, 8x8, 6x6 tokens, which num_landmarks=49 would leave as"),
        ({"img_size": (192, 256)}, "8x8, 4x4, 2x2 to 12x10, 6x8, 6x4 tokens"),
    ],
    ids=str,
)
def test_the_number_of_landmarks_that_keeps_the_windows_is_named(options, message):
    weights = shapes(shell("soft_tiny"))
    model = shell("soft_tiny", **options)
    resized, note = resize_to_model(weights, model)
    assert f"landmark windows from {message}" in note
    assert {key: value.shape for key, value in resized.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    if "num_landmarks=" in message:
        kept = int(note.split("num_landmarks=")[1].split()[0])
        _, note = resize_to_model(weights, shell("soft_tiny", **options | {"num_landmarks": kept}))
        assert "landmark" not in note


def test_resized_windows_answer_to_an_enlarged_image_as_before():
    """Windows tile the grids of both sizes, and every block's filters are resized on their own."""
    small, large = pico(img_size=96, num_landmarks=9), pico(img_size=192, num_landmarks=9)
    load_weights(large, small.state_dict())
    for stage in range(3):
        for block in range(len(small.stages[stage].blocks)):
            filters, resized = (m.stages[stage].blocks[block].attn.landmarks.conv.weight for m in (small, large))
            rows, columns = filters.shape[2:]
            assert resized.shape[2:] == (2 * rows, 2 * columns)
            window = torch.randn(4, 32, rows, columns, generator=torch.Generator().manual_seed(stage))
            enlarged = F.interpolate(window, (2 * rows, 2 * columns), mode="bicubic", antialias=True)
            torch.testing.assert_close(F.conv2d(enlarged, resized), F.conv2d(window, filters), rtol=1e-3, atol=1e-4)


def test_linformers_projections_are_those_of_an_input_of_another_size():
    model, larger = pico(attention="linformer"), pico(attention="linformer", img_size=48)
    larger.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(larger(x), model(x))


def test_a_grid_that_is_not_square_is_found():
    wide = shell("soft_pico", img_size=(32, 64))
    assert first_grid(wide, shell("soft_pico")) == (16, 32)
    assert first_grid(wide, shell("soft_pico", img_size=(64, 32))) == (16, 32)
    # As many tokens as a square grid has; the landmark windows tell.
    assert first_grid(shell("soft_pico", img_size=(32, 128)), shell("soft_pico", img_size=64)) == (16, 64)


def test_a_grid_that_shapes_leave_open():
    """Without windows: what the file says, then the model's own, then a square, then the nearest proportions."""
    options = {"sampling": "avgpool", "num_landmarks": 4}
    wide, tall, square = (shell("soft_pico", img_size=size, **options) for size in ((32, 64), (64, 32), 64))
    assert first_grid(wide, tall) == (32, 16)
    assert first_grid(wide, tall, img_size=(32, 64)) == (16, 32)
    assert first_grid(wide, tall, img_size=(32, 48)) == (32, 16)
    longer = shell("soft_pico", img_size=(32, 128), **options)
    assert first_grid(longer, square) == (32, 32)
    assert first_grid(longer, wide) == (32, 32)
    assert first_grid(longer, square, img_size=(32, 128)) == (16, 64)


def test_the_recorded_size_decides_although_all_shapes_are_the_models():
    options = {"sampling": "avgpool", "num_landmarks": 4}
    wide, tall = (pico(img_size=size, **options) for size in ((32, 64), (64, 32)))
    with torch.no_grad():
        wide.stages[0].pos_embed.copy_(torch.arange(512).view(1, 512, 1) // 32)  # the row of each token
    load_weights(tall, wide.state_dict(), img_size=(32, 64))
    rows = tall.stages[0].pos_embed[0, :, 0].view(32, 16)
    assert (rows.diff(dim=0) >= 0).all()
    assert rows[-1].min() == 15


@pytest.mark.parametrize("grid", [(16, 16), (14, 20)])
@pytest.mark.parametrize("num_landmarks", [1, 4, 9, 16])
def test_the_number_of_landmarks_is_found_from_the_windows(grid, num_landmarks):
    model = shell("soft_pico", img_size=(2 * grid[0], 2 * grid[1]), num_landmarks=num_landmarks)
    windows = {i: stage.blocks[0].attn.landmarks.kernel for i, stage in enumerate(model.stages[:3])}
    grids = {i: stage.grid for i, stage in enumerate(model.stages)}
    assert find_num_landmarks(windows, grids) == num_landmarks
    assert find_num_landmarks({0: (100, 7)}, grids) is None


@pytest.mark.parametrize(
    ("weights", "model", "message"),
    [
        ({"sampling": "avgpool"}, {}, r"4 missing .* sampling=avgpool, random or first, as they were trained\."),
        ({}, {"sampling": "first"}, r"4 unknown .* by a convolution; build the model with sampling=conv\."),
        (
            {"attention": "linformer", "num_landmarks": 4},
            {"attention": "linformer"},
            r"Build the model with num_landmarks=4, as the weights were trained\.",
        ),
        (
            {"attention": "performer", "num_features": 40},
            {"attention": "performer"},
            r"Build the model with num_features=40, as",
        ),
        (
            {"attention": "nystromformer", "conv_kernel": 5},
            {"attention": "nystromformer"},
            r"Build the model with conv_kernel=5, as",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_resized_is_refused_with_the_option_that_fits(weights, model, message):
    with pytest.raises(SettingError, match=message):
        pico(**model).load_state_dict(pico(**weights).state_dict())


def test_timm_resizes_a_file_too(tmp_path, caplog):
    path = str(tmp_path / "w.pth")
    torch.save(pico().state_dict(), path)
    options = {"img_size": (48, 64), "num_classes": 10}
    direct = timm.create_model("soft_pico", checkpoint_path=path, **options)
    overlay = {"file": path, "num_classes": 10}
    pretrained = timm.create_model("soft_pico", pretrained=True, pretrained_cfg_overlay=overlay, **options)
    assert [message.split(":")[0] for message in caplog.messages] == ["The weights were resized to fit the model"] * 2
    for one, other in zip(direct.parameters(), pretrained.parameters(), strict=True):
        assert torch.equal(one, other)


def encoder(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("soft_encoder", **{"num_classes": 4, **options}).eval()


@pytest.mark.parametrize("attention", ["soft", "linformer"])
@pytest.mark.parametrize(
    ("layout", "sizes"),
    [("grid", [(8, 8), (10, 10)]), ("grid", [(8, 8), (6, 12)]), ("sequence", [(1, 63), (1, 127)])],
    ids=str,
)
def test_the_flat_encoder_is_resized(layout, sizes, attention, tmp_path, caplog):
    options = {"layout": layout, "attention": attention, "global_pool": "token" if layout == "sequence" else "avg"}
    model, path = encoder(img_size=sizes[0], **options), str(tmp_path / "w.pth")
    torch.save(model.state_dict(), path)
    larger = encoder(img_size=sizes[1], checkpoint_path=path, **options)
    assert "position embeddings from {}x{} to {}x{} tokens".format(*sizes[0], *sizes[1]) in caplog.text
    assert ("landmark windows" in caplog.text) == (attention == "soft")
    prefix = model.num_prefix_tokens
    old = model.pos_embed[:, prefix:].mT.unflatten(-1, sizes[0])
    expected = F.interpolate(old, sizes[1], mode="bilinear", align_corners=False).flatten(2).mT
    torch.testing.assert_close(larger.pos_embed, torch.cat([model.pos_embed[:, :prefix], expected], 1))
    assert larger(torch.randint(2, 9, (2, 1, *sizes[1]))).shape == (2, 4)
    assert torch.equal(soft.load_model(path, "soft_encoder", **options).pos_embed, model.pos_embed)


@pytest.mark.parametrize("attention", ["soft", "linformer"])
def test_an_encoder_with_fixed_positions_is_resized_from_the_size_that_is_recorded(attention):
    model, larger = (encoder(img_size=size, attention=attention, pos_embed="sincos2d") for size in (8, 10))
    with pytest.raises(SettingError, match="windows of landmarks follow" if attention == "soft" else "another shape"):
        load_weights(larger, model.state_dict())
    load_weights(larger, model.state_dict(), img_size=8)
    assert larger(torch.randint(2, 9, (2, 1, 10, 10))).shape == (2, 4)
