"""The training loss, and the mixing of images that goes with it."""

from collections.abc import Sequence

import torch
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from soft.data.augmentation import Augmentation
from soft.data.mixing import Mixup
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.settings import check_choice, check_numbers


def mixes(augment: Augmentation) -> bool:
    """Return whether an augmentation mixes images, so that targets are shares of classes."""
    return augment.mixup > 0 or augment.cutmix > 0


def build_mixup(augment: Augmentation, layout: BatchLayout, num_classes: int) -> Mixup | None:
    """Build the mixing of images in a batch, which gives smoothed targets (B, num_classes); None if nothing is mixed.

    Raises:
        SettingError: a device would get an odd number of images, which cannot be paired.
    """
    if not mixes(augment):
        return None
    if layout.per_device % 2:
        raise SettingError(
            f"Mixup pairs the images of a batch, and data.batch_size={layout.global_batch} leaves an odd "
            f"{layout.per_device} on each device. Choose an even share, or augment.mixup=0 augment.cutmix=0."
        )
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mixup_prob,
        switch_prob=augment.mixup_switch_prob,
        label_smoothing=augment.label_smoothing,
        num_classes=num_classes,
    )


def build_loss(
    augment: Augmentation, name: str = "cross_entropy", class_weights: Sequence[float] | None = None
) -> nn.Module:
    """Build the training loss, in nats, of logits (B, num_classes) and targets.

    The targets are what the augmentation makes of the labels: the labels (B,) themselves, or mixed and smoothed shares
    of classes (B, num_classes).

    Args:
        augment: says whether targets are mixed or smoothed.
        name: `cross_entropy`, or `binary`: a yes-or-no question for each class, the mean over them.
        class_weights: a factor for each class, on the loss of its images; with `binary`, on the positive term of that
            class. The sum over a batch is divided by its number of images, so that a step does not depend on how its
            images are split over devices.

    Raises:
        SettingError: an unknown name.
    """
    check_choice("loss.name", name, ("cross_entropy", "binary"))
    smoothing = 0.0 if mixes(augment) else augment.label_smoothing  # mixed targets are smoothed already
    weights = None if class_weights is None else torch.tensor(class_weights)
    if name == "binary":
        return _keep_outside_checkpoints(BinaryCrossEntropy(smoothing), "pos_weight", weights)
    if weights is not None:
        return _keep_outside_checkpoints(WeightedCrossEntropy(label_smoothing=smoothing), "weight", weights)
    if mixes(augment):
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(smoothing) if smoothing > 0 else nn.CrossEntropyLoss()


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """PyTorch's cross-entropy with class weights, divided by the number of images and not by the sum of weights."""

    def __init__(self, label_smoothing: float):
        super().__init__(label_smoothing=label_smoothing, reduction="none")

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits, targets).mean()


def _keep_outside_checkpoints(loss: nn.Module, name: str, weights: Tensor | None) -> nn.Module:
    loss.register_buffer(name, weights, persistent=False)
    return loss


def find_class_weights(
    setting: str | Sequence[float], num_classes: int, counts: Sequence[int] | None
) -> list[float] | None:
    """Return the factor of each class that `loss.class_weights` stands for; None for no weights.

    Args:
        setting: `none`, `balanced` (the inverse of a class's share of the training images, 1 on average over the
            images) or a number of at least 0 for each class.
        num_classes: number of classes.
        counts: training images of each class; None where they are not known.

    Raises:
        SettingError: the setting is none of these, or there are no counts for `balanced`.
    """
    if setting is None or setting == "none":
        return None
    if setting == "balanced":
        if counts is None:
            raise SettingError(
                "loss.class_weights=balanced needs data whose classes can be counted before the training; choose none, "
                "or a list with a weight for each class."
            )
        present = sum(count > 0 for count in counts)
        return [float(sum(counts) / (present * count)) if count else 0.0 for count in counts]
    if isinstance(setting, str):
        raise SettingError(f"loss.class_weights={setting} is not known; it is none, balanced or a list of numbers.")
    check_numbers("loss.class_weights", setting, count=num_classes, low=0)
    return [float(weight) for weight in setting]
