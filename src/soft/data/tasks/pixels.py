"""Images as sequences of grey pixels, so that nothing but attention knows which pixels are neighbours.

Source: the task "Image" of Tay et al., "Long Range Arena" (2021), there with CIFAR-10: 1,024 pixels of 256 values.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from soft.settings import check_pixels


class Pixels(Dataset):
    """Grey images of a data set of images: int64 (1, H, W) with values from 0 to 255, row after row, and the label.

    The sequence is made by a model that lays its tokens out so (`layout=sequence`): its length is H·W.

    Args:
        images: `images[index]` is (PIL image, label), as in `soft.data.image_sets.ImageSets`.
        img_size: height and width in pixels, or one number for both; images of another size are resized (bicubic).
    """

    vocabulary = 256
    fields = 1

    def __init__(self, images: Dataset, img_size: int | tuple[int, int]):
        check_pixels("data.img_size", img_size)
        self.images = images
        self.grid = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        grey = image.convert("L")
        if grey.size != self.grid[::-1]:
            grey = grey.resize(self.grid[::-1], Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(grey, dtype=np.int64))[None], label
