"""conf/data and conf/augment build what they say, in every combination."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule
from soft.data.datasets import BUILDERS
from soft.errors import SettingError

CONF = Path(__file__).parents[2] / "conf"


def from_config(*overrides: str) -> ImageDataModule:
    """What an entry point builds: `recipe` is for other groups of the configuration to read."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=["+seed=1", *overrides])
    arguments = OmegaConf.to_container(cfg, resolve=True)["data"]
    arguments.pop("recipe", None)
    return instantiate(arguments)


def ready(name: str, request, *overrides: str) -> ImageDataModule:
    """The configured data set `name`, read; skips the test where its files are not there."""
    root = [f"data.root={request.getfixturevalue('fashion_mnist_root')}"] if name == "fashion_mnist" else []
    data = from_config(f"+data={name}", *overrides, *root)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("augment", ["paper", "light", "none"])
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_combination_of_files_builds(name, augment):
    data = from_config(f"+data={name}", f"+augment={augment}")

    assert isinstance(data, ImageDataModule)
    assert data.dataset == name
    assert isinstance(data.augment, Augmentation)
    assert data.augment.hflip == (0.0 if augment == "none" else data.hflip)
    assert data.seed == 1
    assert type(data.options.get("expected", {})) is dict, "no OmegaConf container gets in"


def test_digits_are_not_mirrored():
    assert from_config("+data=digits", "+augment=paper").augment.hflip == 0.0


def test_the_files_of_augment_cover_every_field():
    for file in (CONF / "augment").glob("*.yaml"):
        assert set(OmegaConf.load(file)) == {"_target_", *Augmentation.__dataclass_fields__}


def test_imagenet_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("IMAGENET_ROOT", "/data/ilsvrc")
    assert from_config("+data=imagenet", "+augment=none").options["root"] == Path("/data/ilsvrc")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("digits", (1437, 360)),
        ("fake", (256, 64)),
        ("fashion_mnist", (60_000, 10_000)),
    ],
)
def test_a_configured_data_set_gives_batches(name, sizes, request):
    data = ready(name, request, "+augment=light", "data.num_workers=0")

    assert (data.train_size, data.val_size) == sizes
    assert data.num_classes == len(data.class_names) == 10
    for loader, size in ((data.train_dataloader(), data.batch_size), (data.val_dataloader(), data.val_batch_size)):
        images, labels = data.on_after_batch_transfer(next(iter(loader)))
        assert (images.shape, images.dtype) == ((size, 3, data.img_size, data.img_size), torch.float32)
        assert (labels.shape, labels.dtype) == ((size,), torch.int64)


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_the_configured_mean_and_std_are_the_training_set_s(name, request):
    data = ready(name, request, "+augment=none")
    counts, _ = np.histogram(data.sets.train.images, bins=256, range=(0, 256))
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=counts)
    std = np.average((levels - mean) ** 2, weights=counts) ** 0.5

    assert data.mean == (round(mean, 4),) * 3
    assert data.std == (round(std, 4),) * 3


def test_hydra_keeps_the_cause_of_its_error():
    with pytest.raises(InstantiationException) as caught:
        from_config("+data=digits", "+augment=light", "augment.mixup=-1")
    assert isinstance(caught.value.__cause__, SettingError)
