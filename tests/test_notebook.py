"""What soft.fit and soft.evaluate do with arguments that do not fit together, and in folders that hold a training."""

import logging

import pytest
import timm
import torch
from PIL import Image

import soft
from soft.errors import SettingError
from soft.models.metadata import Metadata, attach_metadata

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0), "grey": (99, 99, 99)}
ON_CPU = {"accelerator": "cpu"}


def write_colours(root, *names, images=4):
    """Write train/ and val/ of class folders, each with plain images of the colour that names it."""
    for split in ("train", "val"):
        for name in names:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                Image.new("RGB", (32, 32), COLOURS[name]).save(folder / f"{name}{i}.png")
    return root


def read(root, **options):
    sizes = {"img_size": 32, "batch_size": 4, "num_workers": 0}
    return soft.ImageDataModule("imagenet", root=root, **{**sizes, **options})


def small_model(classes, **options):
    torch.manual_seed(0)
    return timm.create_model("soft_pico", num_classes=classes, img_size=32, num_landmarks=4, newton_iters=3, **options)


class Colours(torch.nn.Module):
    """A perfect model of blue, green and red."""

    num_classes = 3

    def __init__(self, *names):
        super().__init__()
        self.pretrained_cfg = {"label_names": names} if names else {}
        self.weight = torch.nn.Parameter(
            torch.tensor([COLOURS[name] for name in names or ("blue", "green", "red")]) / 1.0
        )

    def forward(self, images):
        return images.mean((2, 3)) @ self.weight.T


def test_classes_are_matched_by_name(tmp_path, caplog):
    data = read(write_colours(tmp_path, "green", "red"))
    with caplog.at_level(logging.WARNING):
        assert soft.evaluate(Colours("blue", "green", "red"), data, **ON_CPU)["top1"] == 100
    assert "2 of the model's 3 classes" in caplog.text


def test_classes_that_the_model_does_not_know_are_refused(tmp_path):
    data = read(write_colours(tmp_path / "other", "blue", "green", "grey"))
    with pytest.raises(SettingError, match="does not know: grey"):
        soft.evaluate(Colours("blue", "green", "red"), data, **ON_CPU)
    more = read(write_colours(tmp_path / "more", *COLOURS))
    with pytest.raises(SettingError, match="3 classes without names and the data set has 4"):
        soft.evaluate(Colours(), more, **ON_CPU)


def test_another_preprocessing_is_said(tmp_path, caplog):
    data, model = read(write_colours(tmp_path, "green", "red"), mean=[0.1] * 3), small_model(2)
    facts = {"mean": (0.5,) * 3, "std": data.std, "crop_pct": data.crop_pct, "interpolation": data.interpolation}
    attach_metadata(model, Metadata(class_names=("green", "red"), img_size=(32, 32), **facts))
    soft.evaluate(model, data, **ON_CPU)
    notes = [record.getMessage() for record in caplog.records if "prepared" in record.getMessage()]
    assert notes == ["Images are prepared in another way: mean is [0.1, 0.1, 0.1], but [0.5, 0.5, 0.5] in training."]


def test_a_model_that_does_not_say_its_classes(tmp_path):
    with pytest.raises(SettingError, match="The Linear has no attribute num_classes"):
        soft.evaluate(torch.nn.Linear(2, 2), read(write_colours(tmp_path, "green", "red")), **ON_CPU)


@pytest.mark.parametrize("classes", [2, 1000])
def test_a_model_with_another_number_of_classes_is_not_trained(classes, tmp_path):
    data = read(write_colours(tmp_path / "data", "blue", "green", "red"))
    with pytest.raises(SettingError, match=f"The model has {classes} classes and the data 3"):
        soft.fit(small_model(classes), data, folder=tmp_path / "run", **ON_CPU)
    assert not (tmp_path / "run").exists()


def test_the_data_of_an_evaluation_is_fetched_for_a_training_too(tmp_path, monkeypatch):
    """The data module has the trainer of the evaluation, which says that nothing is trained."""
    fetched, data = [], read(write_colours(tmp_path / "data", "blue", "green"))
    monkeypatch.setattr("soft.data.datamodule.fetch", lambda name, options, train, split: fetched.append(train))
    soft.evaluate(small_model(2), data, **ON_CPU)
    assert fetched == [False]
    with pytest.raises(SettingError):
        soft.fit(small_model(3), data, folder=tmp_path / "run", **ON_CPU)
    assert fetched == [False, True]
