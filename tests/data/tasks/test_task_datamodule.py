"""The loaders of tasks: integers, the same on any number of workers and devices."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from soft.data.augmentation import Augmentation
from soft.data.classification import ClassificationDataModule
from soft.data.datasets import BUILDERS
from soft.data.facts import facts
from soft.data.in_memory import digits
from soft.data.tasks.builders import TASKS
from soft.data.tasks.pixels import PixelDataModule, grey_values
from soft.data.tasks.recall import Recall
from soft.data.tasks.task_datamodule import TaskDataModule
from soft.errors import SettingError
from soft.models.factory import create_from_config
from soft.training.inputs import check_inputs
from tests.data.test_datamodule import FakeTrainer, ready

CONF = str(Path(__file__).parents[3] / "conf")
SMALL = {
    "recall": {},
    "listops": {"img_size": [1, 40], "min_length": 3},
    "listops_short": {},
    "pathfinder": {"dashes": 6, "distractor_dashes": 2},
}
FEW = {"train_examples": 12, "val_examples": 7, "batch_size": 4, "val_batch_size": 3, "num_workers": 0}


def configured(name: str, *overrides: str) -> dict:
    """What a training reads for data `name`, in plain containers."""
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["model=soft_encoder", f"data={name}", *overrides])
    return {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "model", "schedule")}


def task(name: str, **changes: object) -> TaskDataModule:
    return TaskDataModule(name, **{**FEW, **SMALL[name], **changes})


@pytest.mark.parametrize("name", [*TASKS, "pixels"])
def test_each_task_goes_from_its_configuration_through_the_model(name):
    settings = configured(name)
    small = {**FEW, **SMALL.get(name, {})} if name in TASKS else {"batch_size": 4, "val_batch_size": 3, "img_size": 8}
    data = ready(instantiate(settings["data"] | small))
    model = create_from_config(settings["model"], data.num_classes, data.img_size)
    check_inputs(model, data)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        tokens, labels = data.on_after_batch_transfer(next(iter(loader)))
        assert tokens.dtype == labels.dtype == torch.int64
        assert tokens.shape[1:] == (data.in_chans, *model.img_size)
        assert tokens.max() < data.vocabulary
        logits = model(tokens)
        assert logits.shape == (len(labels), len(data.class_names))
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", TASKS)
def test_a_notebook_and_a_command_agree_on_a_task(name):
    numbers = ["data.train_examples=3", "data.val_examples=2"]
    ours = TaskDataModule(name, train_examples=3, val_examples=2)
    theirs = instantiate(configured(name, *numbers)["data"])
    assert (ours.dataset, ours.img_size, ours.options) == (theirs.dataset, theirs.img_size, theirs.options)
    known = {*inspect.signature(TaskDataModule).parameters, *inspect.signature(TASKS[name]).parameters}
    assert set(facts(name)) <= known
    assert not set(TASKS) & set(BUILDERS)


def test_the_base_of_tasks_has_the_data_module_s_own_defaults():
    base = OmegaConf.to_container(OmegaConf.load(Path(CONF) / "base" / "task.yaml"))
    parameters = inspect.signature(TaskDataModule).parameters
    for name in ("split", "task_seed", "batch_size", "val_batch_size", "num_workers"):
        assert base[name] == parameters[name].default


def test_batches_do_not_depend_on_workers_or_devices():
    def epoch(data: TaskDataModule, trainer: FakeTrainer | None = None) -> torch.Tensor:
        data.trainer = trainer
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        return torch.stack([batch.images for batch in loader])

    alone = epoch(ready(task("recall")))
    assert torch.equal(epoch(ready(task("recall", num_workers=2))), alone)
    ranks = [epoch(ready(task("recall")), FakeTrainer(world_size=2, global_rank=rank)) for rank in (0, 1)]
    assert torch.equal(torch.cat(ranks, dim=1), alone)
    assert not torch.equal(epoch(ready(task("recall", seed=1))), alone)


def test_fresh_examples_are_others_in_every_epoch_and_the_same_on_any_number_of_workers():
    def epochs(**changes: object) -> list[torch.Tensor]:
        loader = ready(task("recall", batch_size=12, **changes)).train_dataloader()
        found = []
        for epoch in (0, 1, 0):
            loader.sampler.set_epoch(epoch)
            batch = torch.cat([batch.images for batch in loader]).flatten(1)
            found.append(torch.tensor(sorted(batch.tolist())))  # whatever the order of the epoch
        return found

    first, second, again = epochs()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    first, second, _ = epochs(fresh_examples=False)
    assert torch.equal(first, second)
    assert all(map(torch.equal, epochs(), epochs(num_workers=2)))


def test_the_data_are_the_same_for_every_run_seed():
    def examples(**changes: int) -> torch.Tensor:
        return torch.stack([x for x, _ in ready(task("recall", **changes)).sets.val])

    assert torch.equal(examples(seed=0), examples(seed=1))
    assert not torch.equal(examples(task_seed=0), examples(task_seed=1))


@pytest.mark.parametrize(
    ("split", "evaluated", "size"), [(None, "val", 7), ("test", "test", 5), ("train", "train", 12)]
)
def test_splits(split, evaluated, size):
    data = ready(task("recall", split=split, test_examples=5))
    assert isinstance(data.sets.train, Recall)
    assert (data.sets.train.split, data.sets.val.split) == ("train", evaluated)
    assert (data.train_size, data.val_size, len(data.sets.val)) == (12, size, size)


def test_a_checkpoint_keeps_what_a_task_has_of_preprocessing():
    assert task("recall").preprocessing == {
        "img_size": [8, 8],
        "dataset": "recall",
        "class_names": [str(digit) for digit in range(10)],
    }


def test_pixels_are_the_images_grey_values():
    data = ready(PixelDataModule("digits", img_size=8, batch_size=4, val_batch_size=3, num_workers=0))
    tokens, labels = data.on_after_batch_transfer(next(iter(data.val_dataloader())))
    images = digits(train=False).val
    assert tokens.shape == (3, 1, 8, 8)
    assert labels.tolist() == [images[i][1] for i in range(3)]
    assert all(torch.equal(tokens[i, 0], torch.from_numpy(np.array(images[i][0])[..., 0]).long()) for i in range(3))


def test_grey_values_are_pillow_s():
    from PIL import Image

    rgb = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    grey = np.array(Image.fromarray(rgb).convert("L"))
    ours = grey_values(torch.from_numpy(rgb).permute(2, 0, 1)[None])
    assert torch.equal(ours[0, 0], torch.from_numpy(grey).long())


def test_a_picture_of_pixels_is_what_the_network_sees(photographs, monkeypatch):
    data = ready(PixelDataModule("digits", img_size=8, batch_size=4, val_batch_size=3, num_workers=0))
    monkeypatch.setattr(data.sets, "val", [(photographs[0].copy(), 0) for _ in range(len(data.sets.val))])
    seen = data.network_inputs(next(iter(data.val_dataloader())))[0, 0]
    picture = data.picture(0)
    assert (picture.shape, picture.dtype) == ((8, 8, 3), np.uint8)
    for channel in range(3):
        assert (picture[..., channel] == seen.numpy()).all()


def test_pixels_of_a_set_with_files(fashion_mnist_root):
    data = ready(PixelDataModule("fashion_mnist", root=fashion_mnist_root, val_batch_size=3, num_workers=0))
    assert data.val_size == 10_000
    tokens, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())))
    assert tokens.shape == (3, 1, 28, 28)
    assert tokens.max() > 200


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("recall", dict(augment=Augmentation(hflip=0.5)), "augment=none"),
        ("recall", dict(augment=Augmentation(mixup=0.5)), "augment=none"),
        ("recall", dict(landmarks=3), r"data.dataset=recall does not take data.landmarks\."),
        ("recall", dict(mean=[0.5] * 3), r"data.dataset=recall does not take data.mean\."),
        ("recall", dict(pairs=20, colours=19), "data.pairs=20 need as many different colours"),
        ("recall", dict(img_size=[2, 2]), "do not fit the 4 cells of data.img_size="),
        ("recall", dict(split="tset"), "data.split='tset' is not known; it is one of train, val, test"),
        ("recall", dict(val_examples=0), "data.val_examples=0"),
        ("recall", dict(task_seed=-1), "data.task_seed=-1"),
        ("recall", dict(fresh_examples=2), "data.fresh_examples=2 has to be true or false"),
        ("listops", dict(img_size=40), r"data.img_size=40 has to be \[1, N\]"),
        ("listops", dict(img_size=[1, 10], min_length=9), r"data.min_length=9 leaves no length below the 10 tokens"),
        ("pathfinder", dict(img_size=[32, 16]), "square"),
        ("pathfinder", dict(dashes=14, dash_length=8), "data.dashes=14 do not fit .* data.dash_length=8, data.gap=2"),
        (
            "pathfinder",
            dict(dashes=14, dash_length=4),
            "too rarely, .* data.continuity=1 and data.seed_distance=7; use",
        ),
        (
            "listops",
            dict(img_size=[1, 200], max_depth=3, min_length=60),
            "Too few .* data.max_depth=3 and data.max_args",
        ),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(name, changes, words):
    with pytest.raises(SettingError) as caught:
        task(name, **changes)
    assert re.search(words, caught.value.as_settings())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(dataset="recall"), "data.dataset='recall' is not known; it is one of digits"),
        (dict(dataset="fashion_mnist"), "data.dataset=fashion_mnist needs data.root"),
        (dict(mean=[0.3] * 3), "data.mean="),
        (dict(augment=Augmentation(mixup=0.2)), "augment.mixup=0.2 does not leave whole grey values"),
        (dict(augment=Augmentation(erase_prob=0.2)), "augment.erase_prob=0"),
    ],
)
def test_settings_of_pixels_that_do_not_fit_are_a_sentence(changes, words):
    with pytest.raises(SettingError) as caught:
        PixelDataModule(**{"dataset": "digits", **changes})
    assert words in caught.value.as_settings()


def test_label_smoothing_is_no_augmentation_of_the_input():
    data: ClassificationDataModule = ready(task("recall", augment=Augmentation(label_smoothing=0.1)))
    assert data.train_size == 12
