"""The loaders of tasks: integers, the same on any number of workers and devices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from soft.data.augmentation import Augmentation
from soft.data.datasets import digits
from soft.data.tasks.datamodule import TaskDataModule
from soft.data.tasks.pixels import Pixels
from soft.data.tasks.recall import Recall
from soft.errors import SettingError
from soft.models.factory import create_from_config
from tests.data.test_datamodule import FakeTrainer, ready

CONF = str(Path(__file__).parents[3] / "conf")
SMALL = {
    "recall": [],
    "listops": ["data.img_size=[1,40]", "data.min_length=3"],
    "listops_short": [],
    "pathfinder": ["data.dashes=6", "data.distractor_dashes=2"],
    "pixels": [],
}


def configured(name: str, *overrides: str) -> dict:
    sizes = [] if name == "pixels" else ["data.train_examples=12", "data.val_examples=7"]
    sizes += ["data.batch_size=4", "data.val_batch_size=3", "data.num_workers=0"]
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["model=soft_encoder", f"data={name}", *SMALL[name], *sizes, *overrides])
        return {
            "data": OmegaConf.to_container(cfg.data, resolve=True),
            "model": OmegaConf.to_container(cfg.model, resolve=True),
        }


def module(name: str, *overrides: str, **changes: object) -> TaskDataModule:
    settings = configured(name, *overrides)["data"]
    assert settings.pop("_target_") == "soft.data.tasks.datamodule.TaskDataModule"
    for key in ("recipe", "_convert_"):
        settings.pop(key)
    recipe = {key: value for key, value in settings.pop("augment").items() if key != "_target_"}
    return TaskDataModule(**{"augment": Augmentation(**recipe), **settings, **changes})


@pytest.mark.parametrize("name", SMALL)
def test_each_task_goes_from_its_configuration_through_the_model(name):
    settings = configured(name)
    data = ready(module(name))
    # Landmarks of SOFT need a grid; softmax takes every layout.
    model_settings = settings["model"] | {"attention": {"attention": "softmax"}}
    model = create_from_config(model_settings, data.num_classes, data.img_size)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        tokens, labels = data.on_after_batch_transfer(next(iter(loader)))
        assert tokens.dtype == labels.dtype == torch.int64
        assert tokens.shape[1] == data.sets.train.fields
        assert tokens.max() < data.sets.train.vocabulary
        logits = model(tokens)
        assert logits.shape == (len(labels), len(data.class_names))
        assert logits.isfinite().all()


def test_batches_do_not_depend_on_workers_or_devices():
    def epoch(data: TaskDataModule, trainer: FakeTrainer | None = None) -> torch.Tensor:
        data.trainer = trainer
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        return torch.stack([batch.images for batch in loader])

    alone = epoch(ready(module("recall")))
    assert torch.equal(epoch(ready(module("recall", num_workers=2))), alone)
    ranks = [epoch(ready(module("recall")), FakeTrainer(world_size=2, global_rank=rank)) for rank in (0, 1)]
    assert torch.equal(torch.cat(ranks, dim=1), alone)
    assert not torch.equal(epoch(ready(module("recall", seed=1))), alone)


def test_the_data_are_the_same_for_every_run_seed():
    def examples(**changes: int) -> torch.Tensor:
        return torch.stack([x for x, _ in ready(module("recall", **changes)).sets.val])

    assert torch.equal(examples(seed=0), examples(seed=1))
    assert not torch.equal(examples(task_seed=0), examples(task_seed=1))


def test_training_and_validation_examples_differ():
    sets = ready(module("recall")).sets
    assert isinstance(sets.train, Recall)
    assert (sets.train.split, sets.val.split) == ("train", "val")


def test_pixels_are_the_images_grey_values():
    images = digits().val
    pixels = Pixels(images, 8)
    image, label = images[3]
    tokens, same = pixels[3]
    assert same == label
    assert torch.equal(tokens, torch.from_numpy(np.array(image)[..., 0].astype(np.int64))[None])
    resized = Pixels(images, (4, 6))
    assert resized[3][0].shape == (1, 4, 6)
    assert len(resized) == len(images)


def test_pixels_of_a_set_with_settings_of_its_own(fashion_mnist_root):
    data = ready(module("pixels", source="fashion_mnist", root=str(fashion_mnist_root), img_size=28))
    assert data.val_size == 10_000
    tokens, _ = data.sets.val[0]
    assert tokens.shape == (1, 28, 28)
    assert tokens.max() > 200


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("recall", dict(vocabulary=10), "data.vocabulary=10"),
        ("recall", dict(fields=1), "data.fields=1"),
        ("recall", dict(num_classes=9), "data.num_classes=9"),
        ("recall", dict(augment=Augmentation(hflip=0.5)), "augment=none"),
        ("recall", dict(augment=Augmentation(mixup=0.5)), "augment=none"),
        ("recall", dict(landmarks=3), "landmarks"),
        ("listops", dict(img_size=40), r"\[1, N\]"),
        ("pathfinder", dict(img_size=[32, 16]), "square"),
        ("pixels", dict(source="recall"), "data.source"),
        ("pixels", dict(source="fashion_mnist"), "data.source=fashion_mnist"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(name, changes, words):
    with pytest.raises(SettingError, match=words):
        ready(module(name, **changes))


def test_label_smoothing_is_no_augmentation_of_the_input():
    assert ready(module("recall", augment=Augmentation(label_smoothing=0.1))).train_size == 12
