"""The training loss, and the mixing of images that goes with it."""

from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from soft.data.augmentation import Augmentation
from soft.data.mixing import Mixup
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout


def mixes(augment: Augmentation) -> bool:
    """Return whether an augmentation mixes images, so that targets are shares of classes."""
    return augment.mixup > 0 or augment.cutmix > 0


def build_mixup(augment: Augmentation, layout: BatchLayout, num_classes: int) -> Mixup | None:
    """Build what mixes the images of a batch, with smoothed targets (B, num_classes); None where nothing is mixed.

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


def build_loss(augment: Augmentation) -> nn.Module:
    """Build the cross-entropy in nats of logits (B, num_classes) and what the augmentation makes of the labels."""
    if mixes(augment):
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(augment.label_smoothing) if augment.label_smoothing > 0 else nn.CrossEntropyLoss()
