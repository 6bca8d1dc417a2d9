import random

import pytest
import torch

from soft.benchmark.loader_speed import our_batches, timm_batches
from soft.benchmark.photos import write_photos
from soft.data.augmentation import Augmentation


@pytest.mark.parametrize("whose", ["ours", "timm"])
def test_both_loaders_survive_the_strongest_randaugment(make, tmp_path, whose):
    """Where posterize keeps 0 bits, which Pillow 13 refuses."""
    write_photos(tmp_path, images=8, size=(40, 32), quality=90)
    augment = Augmentation(rand_augment="rand-m10-n4-p1.0-inc1", crop_scale=(0.5, 1))
    module = make(dataset="imagenet", root=str(tmp_path), num_classes=None, batch_size=8, augment=augment)
    module.setup("fit")
    random.seed(0)
    device = torch.device("cpu")
    batches = our_batches(module, device) if whose == "ours" else timm_batches(module, tmp_path, device)
    black = (0 - 0.3) / 0.4
    assert any(((next(batches)[0] - black).abs() < 1e-6).flatten(1).all(1).any() for _ in range(20))
