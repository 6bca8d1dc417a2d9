import numpy as np
import pytest
import timm
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from soft.attention import ATTENTIONS
from soft.errors import SettingError
from soft.studies.attention_maps import all_alike, attention_layers, attention_maps, draw_attention_maps

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
POINTS = [[0.0, 0.0], [0.6, 0.1], [1.0, 1.0]]
LAYERS = ["stages.0.blocks.0.attn", "stages.1.blocks.0.attn", "stages.2.blocks.0.attn", "stages.2.blocks.1.attn"]


def pico(attention: str = "soft") -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("soft_pico", num_classes=4, attention=attention)


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize("attention", list(ATTENTIONS))
def test_maps_are_the_rows_that_the_layer_uses_at_the_points_tokens(attention):
    model = pico(attention).eval()
    seen = []
    layer = model.get_submodule(LAYERS[1])
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args))
    maps = attention_maps(model, IMAGES, POINTS, LAYERS)
    handle.remove()
    assert {name: tuple(found.shape) for name, found in maps.items()} == {
        LAYERS[0]: (2, 3, 16, 16),
        LAYERS[1]: (2, 3, 8, 8),
        LAYERS[2]: (2, 3, 4, 4),
        LAYERS[3]: (2, 3, 4, 4),
    }
    # [0.6, 0.1] of an 8x8 grid is row 0, column 4.
    rows = layer.attention_map(*seen[0], [0, 4, 63]).mean(1).view(2, 3, 8, 8)
    torch.testing.assert_close(maps[LAYERS[1]], rows)
    assert (rows.std() > 0) == (attention != "none")


def test_one_head():
    model = pico()
    mean = attention_maps(model, IMAGES, POINTS, LAYERS[1:2])[LAYERS[1]]
    heads = [attention_maps(model, IMAGES, POINTS, LAYERS[1:2], head=head)[LAYERS[1]] for head in (0, 1)]
    assert not torch.equal(*heads)
    torch.testing.assert_close(sum(heads) / 2, mean)


def test_the_model_is_left_as_it_was():
    model = pico().train()
    statistics = model.stem[0].bn.running_mean.clone()
    with pytest.raises(SettingError, match="head=9 is not there"):
        attention_maps(model, IMAGES, POINTS, LAYERS, head=9)
    attention_maps(model, IMAGES, POINTS, LAYERS)
    assert model.training
    assert torch.equal(model.stem[0].bn.running_mean, statistics)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_any_model_whose_modules_give_maps_is_drawn():
    class Mean(nn.Module):
        """Attends evenly to all."""

        def forward(self, x, grid):
            return x.mean(1, keepdim=True).expand_as(x)

        def attention_map(self, x, grid, queries):
            return torch.full((len(x), 1, len(queries), x.shape[1]), 1 / x.shape[1])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.mixer = Mean()

        def forward(self, images):
            return self.mixer(self.scale * images.flatten(2).transpose(1, 2), images.shape[2:])

    assert attention_layers(Model()) == ["mixer"]
    figure = draw_attention_maps(Model(), torch.rand(1, 1, 5, 7), [[0.5, 0.5]])
    assert [axes.get_title() for axes in figure.axes] == ["image", "mixer\n5×7 tokens"]
    assert pixels(figure).std() > 0


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_one_model_shows_the_last_layer_of_each_stage():
    figure = draw_attention_maps(pico(), IMAGES, POINTS)
    assert titles(figure) == [
        "image",
        "stages.0.blocks.0\n16×16 tokens",
        "stages.1.blocks.0\n8×8 tokens",
        "stages.2.blocks.1\n4×4 tokens",
    ]
    assert len(figure.axes) == 6 * 4  # two images, three points


def test_several_models_show_the_deepest_layer_that_is_fine_enough():
    models = {"softmax": pico("softmax"), "mine": pico()}
    figure = draw_attention_maps(models, IMAGES, POINTS)
    assert titles(figure) == [
        "image",
        "softmax\nstages.1.blocks.0\n8×8 tokens",
        "mine\nstages.1.blocks.0\n8×8 tokens",
    ]
    figure = draw_attention_maps(models, IMAGES, POINTS, layers=LAYERS[:1])
    assert titles(figure)[1:] == [f"{name}\nstages.0.blocks.0\n16×16 tokens" for name in models]


def test_panels_show_the_picture_and_the_map_and_say_its_range():
    model, mean, std = pico(), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    picture = torch.rand(3, 32, 32)
    image = (picture - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    figure = draw_attention_maps(model, image[None], POINTS, layers=LAYERS[:1], mean=mean, std=std)
    shown, overlaid = figure.axes[0].images[0], figure.axes[1].images[1]
    np.testing.assert_allclose(shown.get_array(), picture.permute(1, 2, 0), atol=1e-6)
    expected = attention_maps(model, image[None], POINTS, LAYERS[:1])[LAYERS[0]][0, 0]
    np.testing.assert_allclose(overlaid.get_array(), expected)
    assert overlaid.get_clim() == pytest.approx((expected.min().item(), expected.max().item()))
    assert figure.axes[1].get_xlabel() == f"{expected.min():.3g} to {expected.max():.3g}"


def test_maps_of_nearly_equal_weights_are_named_in_a_sentence():
    note = " ".join(draw_attention_maps(pico(), IMAGES, POINTS).get_supxlabel().split())
    assert note.startswith("All weights are alike in stages.0.blocks.0, stages.1.blocks.0, stages.2.blocks.1: ")
    assert note.endswith("read docs/attention.md.")
    models = {"equal": pico("softmax"), "other": pico("softmax")}
    weight = models["other"].get_submodule(LAYERS[0]).qkv.weight
    torch.nn.init.normal_(weight, std=1000.0)
    note = " ".join(draw_attention_maps(models, IMAGES, POINTS, layers=LAYERS[:1]).get_supxlabel().split())
    assert note.startswith("All weights are alike in equal stages.0.blocks.0: ")
    assert draw_attention_maps(models["other"], IMAGES, POINTS, layers=LAYERS[:1]).get_supxlabel() == ""


@pytest.mark.parametrize(
    ("weights", "alike"),
    [
        ([4.6e-8, 7.0e-8], True),
        ([-1.0, -2.9], True),
        ([0.0, 0.0], True),
        ([1.0, 3.1], False),
        ([0.0, 1e-9], False),
        ([-1e-30, 1e-30], False),
    ],
)
def test_which_maps_are_alike(weights, alike):
    assert all_alike(torch.tensor(weights).view(1, 1, 1, 2)) == alike
    assert not all_alike(torch.tensor([weights, [1.0, 9.0]]).view(1, 2, 1, 2))


def test_without_a_normalisation_pictures_are_stretched_from_black_to_white():
    figure = draw_attention_maps(pico(), 7 * IMAGES[:1] + 3, POINTS[:1])
    shown = figure.axes[0].images[0].get_array()
    assert (shown.min(), shown.max()) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": []}, r"points=\[\] has to be a list of \[x, y\]"),
        ({"points": 0.5}, r"points=0\.5 has to be a list of \[x, y\]"),
        ({"points": [0.5, 0.5]}, "points=0.5 has to be a list of 2 numbers from 0 to 1"),
        ({"points": [[0.5, 1.2]]}, r"points=\[0\.5, 1\.2\] has to be a list of 2 numbers from 0 to 1"),
        ({"head": 1}, r"head=1 is not there: stages\.0\.blocks\.0\.attn has heads 0 to 0"),
        ({"head": -1}, "head=-1 has to be a whole number"),
        ({"layers": ["stages.3.blocks.0.attn"]}, r"stages\.3\.blocks\.0\.attn gives no .*; these do: stages\.0\."),
        ({"models": nn.Linear(3, 3), "layers": None}, "no attention that gives maps"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_an_error(options, message):
    with pytest.raises(SettingError, match=message):
        draw_attention_maps(**{"models": pico(), "images": IMAGES, "points": POINTS, "layers": LAYERS[:1], **options})
