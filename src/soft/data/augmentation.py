"""What happens to a training image: one flat recipe, carried out by timm.

`soft.data.transforms` does what works on the pixels of one image, `soft.data.batches` erases, and the training step
mixes images and smooths labels; all read the same recipe.
"""

from dataclasses import dataclass

from timm.data.auto_augment import rand_augment_transform

from soft.errors import SettingError
from soft.settings import check_choice, check_number, check_range

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of a training recipe. The defaults change nothing.

    Attributes:
        crop_scale: share of the image's area that a random crop keeps, (smallest, largest).
        crop_ratio: width / height of a random crop, (smallest, largest).
        hflip: probability of mirroring left and right.
        interpolation: of resizing: bilinear, bicubic, or random (either, drawn per image).
        color_jitter: brightness, contrast and saturation are multiplied by a factor from 1 - this to 1 + this; 0 is
            off. timm leaves it out while `rand_augment` is on.
        rand_augment: timm's RandAugment string, for example rand-m9-mstd0.5-inc1; None is off.
        erase_prob: probability of filling a random rectangle with noise.
        mixup: alpha of Mixup's Beta distribution; 0 is off.
        cutmix: alpha of CutMix's Beta distribution; 0 is off.
        mixup_prob: probability that a batch is mixed at all.
        mixup_switch_prob: probability of CutMix rather than Mixup where both are on.
        label_smoothing: share of the target that is spread evenly over all classes.

    Raises:
        SettingError: a value of the wrong type or out of range.
    """

    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    hflip: float = 0.0
    interpolation: str = "bicubic"
    color_jitter: float = 0.0
    rand_augment: str | None = None
    erase_prob: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    label_smoothing: float = 0.0

    def __post_init__(self):
        check_range("`augment.crop_scale`", self.crop_scale, low=0.01, high=1)
        check_range("`augment.crop_ratio`", self.crop_ratio, low=0.01)
        check_choice("`augment.interpolation`", self.interpolation, (*INTERPOLATIONS, "random"))
        for name in ("hflip", "erase_prob", "mixup_prob", "mixup_switch_prob", "label_smoothing"):
            check_number(f"`augment.{name}`", getattr(self, name), low=0, high=1)
        for name in ("color_jitter", "mixup", "cutmix"):
            check_number(f"`augment.{name}`", getattr(self, name), low=0)
        if self.rand_augment is not None:
            _check_rand_augment(self.rand_augment)
        # A frozen dataclass sets its own attributes this way; YAML gives lists.
        object.__setattr__(self, "crop_scale", tuple(self.crop_scale))
        object.__setattr__(self, "crop_ratio", tuple(self.crop_ratio))

    @property
    def keeps_images(self) -> bool:
        """Return whether single images stay as they are, whatever mixes whole batches."""
        crops = self.crop_scale != (1, 1) or self.crop_ratio != (1, 1)
        return not (crops or self.hflip or self.color_jitter or self.rand_augment or self.erase_prob)


def _check_rand_augment(recipe) -> None:
    try:
        rand_augment_transform(recipe)
    except (AssertionError, AttributeError, ValueError):
        raise SettingError(
            f"`augment.rand_augment`={recipe} is not a RandAugment recipe of timm; write one such as "
            "rand-m9-mstd0.5-inc1, or null."
        ) from None
