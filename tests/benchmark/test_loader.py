import random

import pytest
import torch

from soft.benchmark.loader import our_batches, timm_batches
from soft.benchmark.photos import write_photos
from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule


@pytest.mark.parametrize("whose", ["ours", "timm"])
def test_both_loaders_survive_the_strongest_randaugment(tmp_path, whose):
    """Where posterize keeps 0 bits, which Pillow 13 refuses."""
    write_photos(tmp_path, images=8, size=(40, 32), quality=90)
    module = ImageDataModule(
        dataset="imagenet",
        root=str(tmp_path),
        img_size=16,
        num_classes=None,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        crop_pct=1.0,
        interpolation="bicubic",
        hflip=0.0,
        batch_size=8,
        val_batch_size=2,
        num_workers=0,
        augment=Augmentation(rand_augment="rand-m10-n4-p1.0-inc1", crop_scale=(0.5, 1)),
        seed=0,
    )
    module.setup("fit")
    random.seed(0)
    device = torch.device("cpu")
    batches = our_batches(module, device) if whose == "ours" else timm_batches(module, tmp_path, device)
    black = (0 - 0.5) / 0.25
    assert any((next(batches)[0] == black).flatten(1).all(1).any() for _ in range(20))
