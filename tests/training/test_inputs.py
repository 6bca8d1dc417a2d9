"""Data that a model cannot read is refused with the setting to change."""

import pytest
import timm
from torch import nn

from soft.data.datamodule import ImageDataModule
from soft.data.tasks.pixels import PixelDataModule
from soft.data.tasks.task_datamodule import TaskDataModule
from soft.errors import SettingError
from soft.training.inputs import check_inputs, input_shape


def encoder(**arguments):
    return timm.create_model("soft_encoder", **{"in_chans": 2, "global_pool": "ask", **arguments})


IMAGES = {"embedding": "linear", "in_chans": 3, "global_pool": "avg", "img_size": 32}


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (lambda: encoder(), lambda: TaskDataModule("recall")),
        (lambda: encoder(**IMAGES), lambda: ImageDataModule("digits")),
        (lambda: encoder(**IMAGES | {"in_chans": 1, "vocabulary": 256}), lambda: PixelDataModule("digits")),
        (lambda: timm.create_model("soft_pico", img_size=64), lambda: ImageDataModule("digits")),
        (lambda: nn.Linear(3, 3), lambda: TaskDataModule("recall")),
    ],
    ids=["task", "images", "pixels", "pyramid", "a module of one's own"],
)
def test_what_fits(model, data):
    check_inputs(model(), data())


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            lambda: timm.create_model("soft_pico"),
            lambda: TaskDataModule("recall"),
            "data=recall gives integers, token ids or grey values, and this model takes images. Choose "
            "model=soft_encoder, or a data set of images such as data=digits.",
        ),
        (
            lambda: encoder(in_chans=3, img_size=32),
            lambda: ImageDataModule("digits"),
            "data=digits gives images, and model.embedding=table takes token ids. Set model.embedding=linear",
        ),
        (
            lambda: encoder(),
            lambda: TaskDataModule("recall", colours=80),
            "model.vocabulary=64 does not fit the 81 values of the integers of data=recall; set model.vocabulary to at "
            "least 81.",
        ),
        (
            lambda: encoder(**IMAGES | {"in_chans": 1, "vocabulary": 64}),
            lambda: PixelDataModule("digits"),
            "set model.vocabulary to 256.",
        ),
        (
            lambda: encoder(in_chans=1),
            lambda: TaskDataModule("recall"),
            "model.in_chans=1, but data=recall has 2 values per position; set model.in_chans to 2.",
        ),
        (
            lambda: encoder(img_size=6),
            lambda: TaskDataModule("recall"),
            "The model takes inputs of 6x6 alone, and data=recall gives 8x8; set data.img_size to [6, 6].",
        ),
    ],
    ids=["pyramid", "images", "vocabulary", "grey values", "fields", "size"],
)
def test_what_does_not_fit(model, data, message):
    with pytest.raises(SettingError) as caught:
        check_inputs(model(), data())
    assert message in caught.value.as_settings()


def test_a_model_s_own_channels_are_probed():
    assert input_shape(encoder(), (8, 6)) == (2, 8, 6)
    assert input_shape(timm.create_model("soft_pico", in_chans=1), 32) == (1, 32, 32)
