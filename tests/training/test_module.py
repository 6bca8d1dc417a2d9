"""The training step's parts: targets, averaged weights, metrics, randomness."""

from types import SimpleNamespace

import pytest
import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

import soft  # noqa: F401 - registers the models
from soft.data.augmentation import Augmentation
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.training.build import check_classes
from soft.training.module import ImageClassifier

PLAIN = {
    "crop_scale": [1.0, 1.0],
    "crop_ratio": [1.0, 1.0],
    "hflip": 0.0,
    "interpolation": "bicubic",
    "color_jitter": 0.0,
    "rand_augment": None,
    "erase_prob": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "mixup_prob": 1.0,
    "mixup_switch_prob": 0.5,
    "label_smoothing": 0.0,
}


def classifier(per_device: int = 4, augment: dict | None = None, **options) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(
        timm.create_model("soft_pico", num_classes=10),
        Augmentation(**{**PLAIN, **(augment or {})}),
        {"opt": "adamw", "lr": 1e-2},
        {"sched": "cosine", "epochs": 2},
        BatchLayout(1, per_device, 1),
        steps_per_epoch=4,
        **options,
    )


@pytest.mark.parametrize(
    ("augment", "loss"),
    [
        ({}, nn.CrossEntropyLoss),
        ({"label_smoothing": 0.1}, LabelSmoothingCrossEntropy),
        ({"mixup": 0.8}, SoftTargetCrossEntropy),
        ({"cutmix": 1.0, "label_smoothing": 0.1}, SoftTargetCrossEntropy),
    ],
)
def test_loss_follows_the_targets(augment, loss):
    assert isinstance(classifier(augment=augment).train_loss, loss)


def test_mixed_targets_are_distributions_with_smoothing():
    module = classifier(augment={"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1})
    images, targets = module.mixup(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert targets.min() == pytest.approx(0.1 / 10)
    assert images.shape == (4, 3, 32, 32)


def test_odd_batch_cannot_be_mixed():
    with pytest.raises(SettingError, match="odd 5"):
        classifier(per_device=5, augment={"mixup": 0.8})


def test_average_follows_the_weights():
    module = classifier(ema_decay=0.9)
    with torch.no_grad():
        module.model.head.bias.fill_(1.0)
    module.ema.update(module.model, step=1)  # the first update copies the weights
    with torch.no_grad():
        module.model.head.bias.fill_(2.0)
    module.ema.update(module.model, step=5)
    torch.testing.assert_close(module.ema.module.head.bias, torch.full((10,), 0.9 * 1 + 0.1 * 2))
    assert module.evaluated_model is module.ema.module
    assert not any(parameter.requires_grad for parameter in module.ema.parameters())


def test_without_average_the_raw_weights_are_evaluated():
    module = classifier(ema_decay=0)
    assert module.evaluated_model is module.model
    assert module.raw_metrics is None


@pytest.mark.parametrize("decay", [1, -0.1, "fast"])
def test_decay_out_of_range(decay):
    with pytest.raises(SettingError, match=r"ema\.decay"):
        classifier(ema_decay=decay)


@pytest.mark.parametrize("names", [None, sorted(str(number) for number in range(12))])
def test_a_training_goes_on_only_with_classes_in_the_same_order(names):
    """Older checkpoints name no classes; their numbered class folders were in alphabetical order."""
    folders = SimpleNamespace(dataset="imagenet", class_names=[str(number) for number in range(12)])
    checkpoint = {"recipe": {"data": {"dataset": "imagenet"}}, "metadata": {"class_names": names} if names else None}
    with pytest.raises(SettingError, match="classes in another order"):
        check_classes(checkpoint, folders)
    check_classes({"recipe": {"data": {"dataset": "digits"}}}, folders)  # from other data
    check_classes({**checkpoint, "metadata": {"class_names": folders.class_names}}, folders)
    check_classes(checkpoint, None)
