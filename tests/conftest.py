import functools
import gc
import os

import pytest
import yaml
from omegaconf import base

# As src/entrypoint.py does, and before torch is loaded: tests share their cores.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
# Triton decides when it is imported, which timm does, whether its kernels are compiled or interpreted on the CPU.
os.environ.setdefault("TRITON_INTERPRET", "1")
# No test needs a network; asking for one that is not there takes half a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core

# Half of the tests compose configurations. The parser that comes with libyaml reads the same from their files, and
# what OmegaConf makes of an interpolation does not depend on what was parsed before.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
base.parse = functools.cache(base.parse)
# As conf/ says for the commands: Python looks for garbage less often.
gc.set_threshold(50_000)


def pytest_collection_finish():
    """Leave the modules that are loaded out of the search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def make():
    """Builds a data module of digits with every kind of random augmentation; keywords change its arguments."""
    from soft.data.augmentation import Augmentation
    from soft.data.datamodule import ImageDataModule

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


@pytest.fixture(scope="session")
def photographs():
    """Two images in memory, of 640 x 427 pixels."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]
