"""What the tests of the data floor share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fashion_mnist_root() -> Path:
    root = Path(os.environ.get("SOFT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "FashionMNIST").is_dir():
        pytest.skip("no Fashion-MNIST; set SOFT_TEST_DATA to the folder that holds FashionMNIST/")
    return root


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Two, of 640 x 427 pixels."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


@pytest.fixture
def make() -> Callable[..., ImageDataModule]:
    """Builds a data module of digits with every kind of random augmentation; keywords change its arguments."""

    def build(**changes) -> ImageDataModule:
        arguments = dict(
            dataset="digits",
            img_size=16,
            num_classes=10,
            mean=[0.3, 0.3, 0.3],
            std=[0.4, 0.4, 0.4],
            crop_pct=1.0,
            interpolation="bicubic",
            hflip=0.0,
            batch_size=64,
            val_batch_size=100,
            num_workers=0,
            augment=Augmentation(
                crop_scale=(0.5, 1),
                crop_ratio=(0.8, 1.25),
                hflip=0.5,
                interpolation="random",
                rand_augment="rand-m9-mstd0.5-inc1",
                erase_prob=0.5,
            ),
            seed=3,
        )
        return ImageDataModule(**arguments | changes)

    return build
