"""The examples of detection and segmentation train, and their models are the published ones."""

import importlib
import math
import runpy
from types import ModuleType

import pytest
import timm
import torch
from torchvision.models.detection import MaskRCNN, RetinaNet

from soft.models.key_names import to_official_keys
from tests.docs.pages import ROOT
from tests.marks import slow

EXAMPLES = ROOT / "examples"
ALL = pytest.mark.parametrize("name", ["retinanet", "mask_rcnn", "upernet"])


@pytest.fixture(autouse=True)
def _beside_the_examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def words(name: str, steps: int = 2) -> list[str]:
    size = ["48"] if name == "upernet" else ["48", "64"]
    return ["--model", "soft_pico", "--size", *size, "--batch", "2", "--steps", str(steps)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_has_at_most_60_lines(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["retinanet", slow("mask_rcnn"), slow("upernet")])
def test_an_example_trains_all_of_its_backbone(name, capsys):
    model, losses = load(name).main(words(name))
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert f"step 2 of 2: loss {losses[1]:.3f}\n" in capsys.readouterr().out
    gradients = {key: value.grad for key, value in model.named_parameters() if ".attn." in key}
    for stage in range(4):
        found = [gradient for key, gradient in gradients.items() if f"stages.{stage}." in key]
        assert found
        assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in found)


def test_as_a_command(monkeypatch, capsys):
    """The device is the process's own, so it is not set here."""
    devices = []
    monkeypatch.setattr(torch, "set_default_device", devices.append)
    monkeypatch.setattr("sys.argv", ["upernet.py", *words("upernet", steps=1)])
    runpy.run_path(str(EXAMPLES / "upernet.py"), run_name="__main__")
    assert devices == ["cuda" if torch.cuda.is_available() else "cpu"]
    assert capsys.readouterr().out.startswith("step 1 of 1: loss ")


@ALL
def test_an_example_begins_with_weights_of_a_file(name, tmp_path, monkeypatch):
    weights = timm.create_model("soft_pico").state_dict()
    torch.save({"state_dict_ema": to_official_keys(weights)}, tmp_path / "w.pth")
    example = load(name)
    monkeypatch.setattr(example, "train", lambda *_: [])
    model, _ = example.main([*words(name), "--checkpoint", str(tmp_path / "w.pth")])
    loaded = {key.split("body.model.")[1]: value for key, value in model.state_dict().items() if "body.model." in key}
    assert len(loaded) > 100
    assert all(torch.equal(value, weights[key]) for key, value in loaded.items())


# Parameters in millions, from the authors' README.
PUBLISHED = {
    "soft_norm_tiny": (23, 33, None),
    "soft_norm_small": (34, 44, 54),
    "soft_norm_medium": (55, 65, 76),
    "soft_norm_large": (74, 84, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_the_published_numbers_of_parameters(name):
    with torch.device("meta"):
        upernet = load("upernet").UperNet(timm.create_model(name, features_only=True), 150)
        models = (
            RetinaNet(load("retinanet").create_backbone(name), 80),
            MaskRCNN(load("mask_rcnn").create_backbone(name), 81),
            upernet,
        )
    for model, published in zip(models, PUBLISHED[name], strict=True):
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        assert published is None or millions == pytest.approx(published, abs=0.6)


@pytest.mark.parametrize(("name", "strides"), [("retinanet", (8, 16, 32, 64, 128)), ("mask_rcnn", (4, 8, 16, 32, 64))])
def test_levels_of_a_padded_image(name, strides):
    with torch.device("meta"):
        maps = load(name).create_backbone("soft_tiny")(torch.zeros(1, 3, 800, 1344))
    assert [tuple(x.shape[1:]) for x in maps.values()] == [(256, -(-800 // s), -(-1344 // s)) for s in strides]


def test_the_schedule_of_coco():
    rate = load("retinanet").RECIPE.rate
    steps = {0: 1 / 500, 249: 0.5, 500: 1, 59_999: 1, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01, 89_999: 0.01}
    assert [rate(step, 90_000) for step in steps] == pytest.approx(list(steps.values()))
    assert [rate(step, 12) for step in (1, 7, 8, 10, 11)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_the_schedule_of_ade20k():
    rate = load("upernet").RECIPE.rate
    expected = {749: 0.5 * (1 - 749 / 160_000), 40_000: 0.75, 120_000: 0.25, 160_000: 0}
    assert [rate(step, 160_000) for step in expected] == pytest.approx(list(expected.values()))


def test_generated_targets_agree_with_each_other():
    generated = load("generated")
    torch.manual_seed(0)
    sizes = set()
    for image, target in zip(*generated.generate(8, 32, 48), strict=True):
        sizes.add(image.shape)
        height, width = image.shape[1:]
        assert min(height, width) >= 32
        assert max(height, width) <= 48
        shown = torch.zeros(height, width, dtype=torch.long)
        for box, label, mask in zip(target["boxes"].long().tolist(), target["labels"], target["masks"], strict=True):
            left, top, right, bottom = box
            inside = torch.zeros(height, width, dtype=torch.uint8)
            inside[top:bottom, left:right] = 1
            assert inside.sum() == (right - left) * (bottom - top) > 0
            assert torch.equal(mask, inside)
            shown[mask.bool()] = label
        assert torch.equal(target["classes"], shown)
        for label in range(1, generated.CLASSES):
            assert (image[:, shown == label] == torch.eye(3)[label - 1, :, None]).all()
    assert len(sizes) > 1
