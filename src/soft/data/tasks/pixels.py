"""Images as sequences of grey pixels, so that nothing but attention knows which pixels are neighbours.

Source: the task "Image" of Tay et al., "Long Range Arena" (2021), there with CIFAR-10: 1,024 pixels of 256 values.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from soft.data.augmentation import Augmentation
from soft.data.batches import Batch
from soft.data.datamodule import ImageDataModule
from soft.errors import SettingError

MIDDLE = [0.5, 0.5, 0.5]  # mean and deviation with which grey values from 0 to 255 become values from -1 to 1


class PixelDataModule(ImageDataModule):
    """Grey values and labels of a data set of images: batches of integers (B, 1, H, W) from 0 to 255 and (B,).

    A model with `layout=sequence` reads them as a sequence of H·W pixels, row after row.

    Args:
        dataset: a name in `soft.data.datasets.BUILDERS`.
        mean, std: have to be None, because the model scales grey values itself.
        augment: may crop, mirror and colour images, but neither erase parts of them nor mix them.
        options: see `ImageDataModule`.

    Raises:
        SettingError: as `ImageDataModule`, or an augmentation that does not leave whole grey values.
    """

    in_chans = 1
    vocabulary = 256

    def __init__(
        self,
        dataset: str,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        augment: Augmentation | None = None,
        **options,
    ):
        for name, value in (("mean", mean), ("std", std)):
            if value is not None:
                raise SettingError(
                    f"`data.{name}`={list(value)} is not for grey values, which the model scales itself."
                )
        super().__init__(dataset, mean=MIDDLE, std=MIDDLE, augment=augment, **options)
        for name in ("erase_prob", "mixup", "cutmix"):
            if value := getattr(self.augment, name):
                raise SettingError(f"augment.{name}={value} does not leave whole grey values; set augment.{name}=0.")

    def picture(self, index: int) -> np.ndarray:
        """Return what the network sees of a validation image, uint8 (H, W, 3) with three equal channels."""
        colours = torch.from_numpy(super().picture(index)).permute(2, 0, 1)[None]
        return grey_values(colours)[0].expand(3, -1, -1).permute(1, 2, 0).to(torch.uint8).numpy()

    def network_inputs(self, batch: Batch) -> Tensor:
        """Return grey values (B, 1, H, W), integers from 0 to 255, on the batch's device."""
        return grey_values(batch.images)


def grey_values(images: Tensor) -> Tensor:
    """Return the luma of RGB bytes (B, 3, H, W), int64 (B, 1, H, W), by ITU-R 601-2 and rounded as Pillow does."""
    red, green, blue = images.to(torch.int64).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).unsqueeze(1)
