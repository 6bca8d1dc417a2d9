"""conf/data and conf/augment build what they say, in every combination."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule
from soft.data.datasets import BUILDERS
from soft.data.facts import facts
from soft.errors import SettingError

CONF = Path(__file__).parents[2] / "conf"


def from_config(*overrides: str) -> ImageDataModule:
    """What a command builds."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=["+seed=1", *overrides])
    return instantiate(OmegaConf.to_container(cfg, resolve=True)["data"])


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


def test_the_base_of_augment_changes_nothing():
    base = OmegaConf.to_container(OmegaConf.load(CONF / "base" / "augment.yaml"))
    assert base.pop("_target_") == "soft.data.augmentation.Augmentation"
    assert set(base) == set(Augmentation.__dataclass_fields__)
    assert Augmentation(**base) == Augmentation()


def test_the_base_of_data_has_the_data_module_s_own_defaults():
    base = OmegaConf.to_container(OmegaConf.load(CONF / "base" / "images.yaml"))
    parameters = inspect.signature(ImageDataModule).parameters
    for name in ("split", "interpolation", "batch_size", "val_batch_size", "num_workers"):
        assert base[name] == parameters[name].default
    assert {name for name, value in base.items() if value == "???"} == {"dataset", *facts("photographs")}


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_notebook_and_a_command_agree_on_a_data_set(name):
    """What a notebook gets without saying is what the command's configuration says."""
    here = {"root": "x"} if name in ("fashion_mnist", "cifar10", "imagenet", "imagenet_wds") else {}
    ours = ImageDataModule(name, **here, **({"path": "ILSVRC/imagenet-1k"} if name == "hf" else {}))
    theirs = from_config(f"+data={name}", "+augment=none")

    assert ours.preprocessing == theirs.preprocessing
    assert (ours.num_classes, ours.hflip) == (theirs.num_classes, theirs.hflip)
    assert ours.options | {"root": None} == theirs.options | {"root": None}
    assert ours.augment == theirs.augment


def test_facts_name_arguments_alone():
    for name, builder in BUILDERS.items():
        known = {*inspect.signature(ImageDataModule).parameters, *inspect.signature(builder).parameters}
        assert set(facts(name)) <= known


@pytest.mark.parametrize(
    ("group", "text", "overrides", "expected"),
    [
        ("data", "defaults: [fake, _self_]\ninterpolation: bilinear\nnum_classes: 7\n", [], ("fake", "bilinear", 7, 2)),
        (
            "data",
            "# @package _global_\ndefaults: [fake, _self_]\ndata: {num_classes: 7}\nsuggested: {epochs: 5}\n",
            ["data.interpolation=bilinear"],
            ("fake", "bilinear", 7, 5),
        ),
        (
            "data",
            "defaults: [/base/images@_here_, /facts/digits@_here_, _self_]\ndataset: mine\nnum_classes: 7\n",
            ["data.interpolation=bilinear"],
            ("mine", "bilinear", 7, 20),
        ),
    ],
    ids=["plain keys", "with suggestions", "from the base"],
)
def test_a_data_set_of_one_s_own(tmp_path, group, text, overrides, expected):
    cfg = compose_with(tmp_path, group, text, "data=mine", *overrides)
    assert (cfg.data.dataset, cfg.data.interpolation, cfg.data.num_classes, cfg.schedule.epochs) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults: [soft_medium, _self_]\ndrop_path_rate: 0.5\n", ("soft_medium", "soft", 49, 0.5, 3.5e-4)),
        (
            "defaults: [soft_pico, override attention: linformer, _self_]\ndrop_path_rate: 0.5\n",
            ("soft_pico", "linformer", 9, 0.5, 1.6e-2),
        ),
        (
            "# @package _global_\ndefaults: [soft_medium, _self_]\nmodel: {drop_path_rate: 0.5}\n"
            "suggested: {lr: 1e-3, num_landmarks: 16}\n",
            ("soft_medium", "soft", 16, 0.5, 1e-3),
        ),
    ],
    ids=["plain keys", "another attention", "with suggestions"],
)
def test_a_model_of_one_s_own(tmp_path, text, expected):
    cfg = compose_with(tmp_path, "model", text, "model=mine")
    attention = cfg.model.attention
    found = (cfg.model.name, attention.attention, attention.num_landmarks, cfg.model.drop_path_rate, cfg.optimizer.lr)
    assert found == expected


def compose_with(folder: Path, group: str, text: str, *overrides: str) -> DictConfig:
    """The configuration of a training with a user's own file mine.yaml in `group`."""
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(text)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[f"hydra.searchpath=[file://{folder}]", *overrides])


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
