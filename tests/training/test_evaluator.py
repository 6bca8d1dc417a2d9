"""Validation metrics: every image counts once, in every precision, and a loss that diverges is shown."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import soft  # noqa: F401 - registers the models
from soft.data.augmentation import Augmentation
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.launch.hardware import choose_hardware
from soft.launch.trainer import create_trainer
from soft.training.evaluator import ImageEvaluator, update_metrics, validation_metrics
from soft.training.module import ImageClassifier


def test_a_loss_that_is_not_a_number_is_not_left_out():
    metrics = validation_metrics(3)
    update_metrics(metrics, torch.zeros(4, 3), torch.zeros(4).long())
    update_metrics(metrics, torch.full((4, 3), torch.nan), torch.zeros(4).long())

    assert metrics.compute()["loss"].isnan()


def test_batches_count_by_their_images():
    metrics = validation_metrics(2)
    update_metrics(metrics, torch.tensor([[50.0, 0.0]] * 3), torch.zeros(3).long())
    update_metrics(metrics, torch.tensor([[0.0, 4.0]]), torch.zeros(1).long())

    assert metrics.compute()["loss"].item() == pytest.approx((4 + 0.01815) / 4, abs=1e-4)


def test_a_single_class_is_a_sentence():
    with pytest.raises(SettingError, match="two or more classes apart, and num_classes=1; take data with more"):
        ImageEvaluator(timm.create_model("soft_pico", num_classes=1))


class Classifier(nn.Module):
    """Linear classifier of images (B, 4) in three classes, whose weights bfloat16 holds exactly."""

    num_classes = 3

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.arange(12.0).view(3, 4) / 8 - 0.5)
            self.linear.bias.zero_()

    def forward(self, images):
        return self.linear(images)


def validated(precision, module):
    """Return the loss and the number of images of 2,000 images in batches of 50."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-4, 5, (2000, 4), generator=generator) / 2
    labels = torch.randint(3, (2000,), generator=generator)
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    loader = DataLoader(TensorDataset(images.to(dtype), labels), batch_size=50)
    trainer = create_trainer(
        choose_hardware(None, "trainer", "cpu", precision=precision), precision=precision, enable_model_summary=False
    )
    trainer.validate(module, loader, verbose=False)
    return trainer.callback_metrics["val/loss"], module.images


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_sums_are_as_exact_as_float32_in_every_precision(precision):
    expected, _ = validated("32-true", ImageEvaluator(Classifier()))
    loss, count = validated(precision, ImageEvaluator(Classifier()))
    assert count == 2000
    assert loss.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert loss.item() == pytest.approx(expected.item(), abs=0.003)


def test_sums_of_the_raw_weights_are_in_float32_too():
    network = timm.create_model("soft_pico", num_classes=3)
    schedule = {"sched": "cosine", "epochs": 1}
    module = ImageClassifier(
        network, Augmentation(), {"opt": "sgd", "lr": 0.1}, schedule, BatchLayout(1, 1, 1), 1, ema_decay=0.9
    )
    module.to(torch.bfloat16)
    module.trainer = create_trainer(choose_hardware(None, "trainer", "cpu"), enable_model_summary=False)
    module.on_validation_start()
    assert [metrics["loss"].dtype for metrics in (module.metrics, module.raw_metrics)] == [torch.float32] * 2
