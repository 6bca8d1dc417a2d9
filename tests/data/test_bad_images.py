"""Unreadable files cost a run nothing but a line each, up to a limit; order, counts and resumed runs stay exact."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from soft.data.augmentation import Augmentation
from soft.data.bad_images import BadImages
from soft.data.datamodule import ImageDataModule
from soft.data.verification import find_bad_images
from soft.errors import SettingError
from soft.training.evaluator import ImageEvaluator

BAD_TRAIN = ("train/a/3.JPEG", "train/b/0.JPEG", "train/b/7.JPEG")
BAD_VAL = ("val/a/1.JPEG", "val/b/4.JPEG")


@pytest.fixture
def tree(tmp_path) -> Path:
    """Sixteen training and ten validation images of two classes, BAD_TRAIN and BAD_VAL among them."""
    root = tmp_path / "tree"
    random = np.random.default_rng(0)
    for folder, count in (("train/a", 8), ("train/b", 8), ("val/a", 5), ("val/b", 5)):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(256, size=(16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index}.JPEG", quality=95)
    damage = (lambda content: b"", lambda content: content[:-50], lambda content: b"no image")
    for index, name in enumerate((*BAD_TRAIN, *BAD_VAL)):
        (root / name).write_bytes(damage[index % 3]((root / name).read_bytes()))
    return root


@pytest.fixture
def of(make, tree):
    def build(**changes) -> ImageDataModule:
        arguments = dict(dataset="imagenet", root=str(tree), num_classes=2, batch_size=8, val_batch_size=4)
        augment = Augmentation(crop_scale=(0.5, 1), hflip=0.5, erase_prob=0.5)
        return make(**arguments | dict(max_bad_images=9, augment=augment) | changes)

    return build


class Recorder(LightningModule):
    """Remembers the training images and labels."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 16 * 16, 2)
        self.seen = []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((images.clone(), labels.clone()))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAfter(Callback):
    """Writes a checkpoint after so many batches."""

    def __init__(self, batches: int, path: Path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, module, *_):
        if len(module.seen) == self.batches:
            trainer.save_checkpoint(self.path)


def train(data: ImageDataModule, callbacks=(), checkpoint: Path | None = None) -> list:
    module = Recorder()
    _trainer(max_epochs=3, callbacks=list(callbacks)).fit(module, data, ckpt_path=checkpoint)
    return module.seen


def _trainer(**options) -> Trainer:
    return Trainer(
        accelerator="cpu",
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def same(first: list, second: list) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_training_goes_on_with_the_same_images_on_any_number_of_workers_and_after_a_resume(of, tree, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "soft.data")
    data = of()
    whole = train(data, [SaveAfter(3, tmp_path / "middle.ckpt")])
    lines = [record.getMessage() for record in caplog.records]

    assert [len(labels) for _, labels in whole] == [8] * 6
    assert same(train(of(num_workers=2)), whole)
    assert same(train(of(num_workers=2), checkpoint=tmp_path / "middle.ckpt"), whole[3:])

    assert len(lines) == len(data.bad_images.reasons) == 5, "one line for each file, whatever the epochs"
    for name in BAD_TRAIN:
        (line,) = [line for line in lines if str(tree / name) in line]
        assert "Another image takes its place." in line
    for name in BAD_VAL:
        (line,) = [line for line in lines if str(tree / name) in line]
        assert "It is left out." in line
    assert "(5 of at most max_bad_images=9)" in lines[-1]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_one_more_than_the_limit_stops_training(of, tree, num_workers):
    with pytest.raises(SettingError) as caught:
        train(of(max_bad_images=2, num_workers=num_workers))

    message = caught.value.as_settings()
    assert message.startswith(str(tree))
    assert "bad image number 3 with data.max_bad_images=2" in message
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_training_stops_where_no_image_can_be_read(of, tree):
    for file in (tree / "train").rglob("*.JPEG"):
        file.write_bytes(b"")

    with pytest.raises(SettingError, match=r"100 training images in a row cannot be read, such as .*\.JPEG"):
        train(of(max_bad_images=50))


class Knows(torch.nn.Module):
    """A classifier that is right about the first five validation images, and wrong about the others."""

    num_classes = 2

    def forward(self, images):
        return torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("val_batch_size", [1, 4, 10])
def test_metrics_are_those_of_the_images_that_can_be_read(of, val_batch_size):
    # Single images too, so that a batch can be empty. Four of class a and four of class b are left.
    evaluator = ImageEvaluator(Knows())
    trainer = _trainer()
    data = of(val_batch_size=val_batch_size, num_workers=1)
    trainer.validate(evaluator, data, verbose=False)

    assert evaluator.images == 8
    assert float(trainer.callback_metrics["val/top1"]) == 50.0
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(0.5 * (0.31326 + 1.31326), abs=1e-4)
    assert len(data.bad_images.reasons) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_verification_finds_all_of_them(of, tree, num_workers):
    data = of()
    data.setup()
    for images, bad, total in ((data.sets.train, BAD_TRAIN, 16), (data.sets.val, BAD_VAL, 10)):
        found = list(find_bad_images(images, num_workers))

        assert sum(done for done, _, _ in found) == total
        assert sorted(name for _, _, reasons in found for name in reasons) == [str(tree / name) for name in bad]


def test_a_file_counts_once():
    met = BadImages(limit=2)
    for _ in range(3):
        met.add({"a.jpg": "empty", "b.jpg": "cut off"}, "")
    with pytest.raises(SettingError, match=r"^c.jpg cannot be read as an image: gone\."):
        met.add({"b.jpg": "cut off", "c.jpg": "gone"}, "")
