"""Feature maps for detection and segmentation: right at any size, at a cost that grows with the pixels."""

import pytest
import timm
import torch

from soft.attention import ATTENTIONS
from soft.errors import SettingError
from soft.models.flops import count_macs
from tests.models.shells import NAMES, SHALLOW, shell

SIZES = [(224, 224), (512, 512), (800, 1333)]
LARGE = (3, 800, 1344)


def assert_strides(pyramid: torch.nn.Module, maps: list[torch.Tensor], size: tuple[int, int]) -> None:
    """A convolution of stride 2 rounds up, so strides do too."""
    info = pyramid.feature_info
    for features, channels, stride in zip(maps, info.channels(), info.reduction(), strict=True):
        assert features.shape[1:] == (channels, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_strides(name):
    pyramid = shell(name, features_only=True, dynamic_img_size=True, **SHALLOW)
    assert pyramid.feature_info.reduction() == ([2, 4, 8, 16] if name == "soft_pico" else [4, 8, 16, 32])
    for size in SIZES:
        assert_strides(pyramid, pyramid(torch.zeros(2, 3, *size, device="meta")), size)


@pytest.mark.parametrize("dynamic", [False, True], ids=["windows", "dynamic"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_shapes_and_strides_of_every_attention(attention, dynamic):
    depths = {"depths": (1, 1, 1, 1)}
    pyramid = shell("soft_tiny", features_only=True, dynamic_img_size=dynamic, attention=attention, **depths)
    assert_strides(pyramid, pyramid(torch.zeros(2, 3, 800, 1333, device="meta")), (800, 1333))


@pytest.mark.parametrize("size", [(512, 512), (800, 1333)], ids=str)
def test_features_of_a_large_image(size):
    torch.manual_seed(0)
    pyramid = timm.create_model("soft_norm_tiny", features_only=True, dynamic_img_size=True, depths=(1, 1, 1, 1)).eval()
    with torch.no_grad():
        maps = pyramid(torch.randn(1, 3, *size))
    assert_strides(pyramid, maps, size)
    assert all(features.isfinite().all() and features.std() > 0.1 for features in maps)


@pytest.mark.parametrize("sampling", ["conv", "avgpool"])
def test_the_number_of_landmarks_stays_whatever_the_size(sampling):
    numbers = []
    pyramid = timm.create_model("soft_pico", features_only=True, dynamic_img_size=True, sampling=sampling)
    for stage in pyramid.model.stages[:3]:
        sampler = stage.blocks[0].attn.landmarks
        activate = sampler.activate
        sampler.activate = lambda sampled, activate=activate: numbers.append(sampled.shape[2]) or activate(sampled)
    for size in [(32, 32), (45, 70), (70, 45), (8, 100), (3, 2)]:
        maps = pyramid(torch.randn(2, 3, *size))
        sum(features.sum() for features in maps).backward()
    assert numbers == [9] * 15
    gradients = [p.grad for name, p in pyramid.named_parameters() if name.endswith(("attn.q.weight", "conv.weight"))]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_without_it_the_windows_stay_and_a_smaller_image_is_an_error_that_names_it():
    pyramid = timm.create_model("soft_tiny", features_only=True, **SHALLOW).eval()
    with pytest.raises(SettingError, match=r"grid of 7x16 tokens .* window of 8x8; .* dynamic_img_size=True\."):
        pyramid(torch.zeros(1, 3, 28, 64))


def test_the_cost_is_linear_in_pixels():
    """Stage 4 has softmax attention over a thousandth of the pixels, which is hardly seen here."""

    def macs_per_pixel(size: tuple[int, int, int], **options: object) -> float:
        return count_macs(shell("soft_tiny", features_only=True, **options), size) / (size[1] * size[2])

    small = (3, 224, 224)
    growth = [
        macs_per_pixel(LARGE, **options) / macs_per_pixel(small, **options)
        for options in ({"dynamic_img_size": True}, {"attention": "softmax"}, {"dynamic_img_size": False})
    ]
    assert growth[0] == pytest.approx(0.95, abs=0.05)
    assert growth[1] > 10  # every token with every token
    assert growth[2] > 40  # 1,050 landmarks in place of 49


def test_at_its_own_size_a_dynamic_model_is_the_usual_one():
    torch.manual_seed(0)
    usual = timm.create_model("soft_pico", num_classes=10).eval()
    dynamic = timm.create_model("soft_pico", num_classes=10, dynamic_img_size=True).eval()
    dynamic.load_state_dict(usual.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(dynamic(x), usual(x))


def test_scripted_and_exported_at_another_size():
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "newton_iters": 3}
    pyramid = timm.create_model("soft_pico", features_only=True, dynamic_img_size=True, **options).eval()
    x = torch.randn(2, 3, 40, 56)
    torch.testing.assert_close(torch.jit.script(pyramid)(x), pyramid(x))
    torch.testing.assert_close(torch.export.export(pyramid, (x,)).module()(x), pyramid(x))
