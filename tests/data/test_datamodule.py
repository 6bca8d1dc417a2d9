"""The loaders of a run: the same batches on any layout, and a wrong setting is a sentence."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule
from soft.data.datasets import BUILDERS
from soft.errors import SettingError
from tests.data.class_folders import write_class_folders


class FakeTrainer(SimpleNamespace):
    """What the data module asks a trainer that has not started."""

    def __init__(self, world_size=1, global_rank=0, accumulate_grad_batches=1, num_devices=1, stage=None, limit=1.0):
        idle = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0, started=0)))
        super().__init__(
            world_size=world_size,
            global_rank=global_rank,
            accumulate_grad_batches=accumulate_grad_batches,
            num_devices=num_devices,
            limit_val_batches=limit,
            fit_loop=idle,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            state=SimpleNamespace(fn=stage),
        )


def ready(data: ImageDataModule, trainer=None) -> ImageDataModule:
    data.trainer = trainer
    data.prepare_data()
    data.setup()
    return data


def batches(data: ImageDataModule, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return finished(data, loader)


def same(first, second) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def finished(data: ImageDataModule, batches) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data.trainer = None
    return [data.on_after_batch_transfer(batch) for batch in batches]


def test_validation_images_are_those_of_the_loader(make):
    data = make(val_batch_size=4)
    images = data.validation_images(3)
    assert torch.equal(images, next(iter(finished(data, data.val_dataloader())))[0][:3])
    assert len(data.validation_images(10**6)) == data.val_size


def test_batches_do_not_depend_on_workers_and_change_with_seed_and_epoch(make):
    alone, helped = ready(make(batch_size=256)), ready(make(batch_size=256, num_workers=2))
    epoch_1 = batches(alone, 1)

    assert len(epoch_1) == alone.steps_per_epoch == 5
    assert same(epoch_1, batches(helped, 1))
    assert not same(epoch_1, batches(alone, 2))
    assert not same(epoch_1, batches(ready(make(batch_size=256, seed=4)), 1))


@pytest.mark.parametrize(("world", "accumulated"), [(2, 1), (1, 2), (2, 4)])
def test_a_step_holds_the_same_augmented_images_on_any_layout(make, world, accumulated):
    data = ready(make())
    whole = finished(data, [next(iter(data.train_dataloader()))])
    parts = []
    loaders = [iter(ready(make(), FakeTrainer(world, rank, accumulated)).train_dataloader()) for rank in range(world)]
    for _ in range(accumulated):
        parts += finished(data, [next(loader) for loader in loaders])

    assert same([[torch.cat(column) for column in zip(*parts, strict=True)]], whole)


def test_validation_sees_each_image_once_on_any_number_of_devices(make):
    alone = torch.cat([batch.labels for batch in ready(make()).val_dataloader()])
    ranks = [
        torch.cat([batch.labels for batch in ready(make(), FakeTrainer(7, rank)).val_dataloader()]) for rank in range(7)
    ]

    assert sum(map(len, ranks)) == len(alone) == 360
    assert all(torch.equal(labels, alone[rank::7]) for rank, labels in enumerate(ranks))


@pytest.mark.parametrize("world", [1, 2])
def test_a_few_batches_of_class_folders_have_every_class(make, tmp_path, world):
    """Class folders have the images of a class one after the other."""
    folders = write_class_folders(tmp_path, train=1, val=8)
    labels = []
    for rank in range(world):
        options = dict(dataset="imagenet", root=str(folders), num_classes=None, batch_size=2, val_batch_size=4 // world)
        data = ready(make(**options), FakeTrainer(world, rank, limit=1))
        loader = data.val_dataloader()
        assert len(loader) == 4
        labels += next(iter(loader)).labels.tolist()
    assert sorted(labels) == [0, 0, 1, 1]


def test_balanced_sampling_and_class_counts(make, tmp_path):
    write_class_folders(tmp_path)
    for path in sorted((tmp_path / "train" / "n01440764").iterdir())[1:]:
        path.unlink()
    own = dict(dataset="imagenet", num_classes=None, batch_size=7, seed=0)
    shuffled, drawn = (ready(make(root=tmp_path, sampling=name, **own)) for name in ("shuffled", "balanced"))
    assert shuffled.class_counts == drawn.class_counts == [1, 6]
    rare = [sum(int((labels == 0).sum()) for _, labels in batches(data, 0)) for data in (shuffled, drawn)]
    assert rare[0] == 1 < rare[1]
    images = torch.cat([images[labels == 0] for images, labels in batches(drawn, 0)])
    assert len(images.flatten(1).unique(dim=0)) == len(images)  # each repetition is augmented in its own way


@pytest.mark.parametrize("dataset", ["digits", "fake"])
def test_class_counts_are_those_of_the_training_images(make, dataset):
    options = {"train_images": 25, "val_images": 3, "num_classes": 4} if dataset == "fake" else {}
    data = ready(make(dataset=dataset, **options))
    labels = [data.sets.train[index][1] for index in range(data.train_size)]
    assert data.class_counts == [labels.count(label) for label in range(data.num_classes)]
    assert data.shares is None


class Precision(LightningModule):
    """Remembers what type its batches have."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 16 * 16, 10)
        self.types = set()

    def training_step(self, batch, batch_idx):
        self.types.add(batch[0].dtype)
        return self.layer(batch[0].flatten(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
        ("bf16-mixed", torch.float32),
    ],
)
def test_images_come_in_the_trainer_s_precision(make, precision, dtype):
    module = Precision()
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = Trainer(accelerator="cpu", precision=precision, max_steps=1, use_distributed_sampler=False, **quiet)
    trainer.fit(module, make())

    assert module.types == {dtype}


class WorkerThreads(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Image.new("RGB", (1, 1)), torch.get_num_threads()


def test_workers_use_one_thread_each(make):
    data = ready(make(num_workers=1))
    data.sets.val, data.val_size = WorkerThreads(), 2

    assert next(iter(data.val_dataloader())).labels.tolist() == [1, 1]


@pytest.mark.parametrize(("cores", "devices", "workers"), [(2, 1, 2), (64, 1, 8), (16, 8, 2), (4, 8, 0)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_workers_share_the_cores(make, monkeypatch, cores, devices, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    loader = ready(make(num_workers=None), FakeTrainer(num_devices=devices)).train_dataloader()

    assert loader.num_workers == workers
    assert loader.persistent_workers == (workers > 0)


def test_setup_reads_the_data_once(make, monkeypatch):
    data = ready(make())
    monkeypatch.setitem(BUILDERS, "digits", None)
    data.setup("fit")

    assert data.train_size == 1437


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("dataset", "mnist", "data.dataset='mnist' is not known; it is one of digits, fashion_mnist"),
        ("img_size", "abc", "data.img_size='abc' has to be a whole number of pixels"),
        ("img_size", [32], "data.img_size=[32] has to be"),
        ("img_size", [32, 0], "data.img_size=[32, 0] has to be"),
        ("img_size", 32.0, "data.img_size=32.0 has to be"),
        ("num_classes", 0, "data.num_classes=0 has to be a whole number of at least 1"),
        ("mean", [0.5], "data.mean=[0.5] has to be a list of 3 numbers from 0 to 1"),
        ("mean", [128, 128, 128], "data.mean=[128, 128, 128] has to be"),
        ("std", [0.2, 0.2, 0], "data.std=[0.2, 0.2, 0] has to be"),
        ("std", 0.2, "data.std=0.2 has to be"),
        ("crop_pct", 0, "data.crop_pct=0 has to be a number from 0.01 to 1"),
        ("crop_pct", 90, "data.crop_pct=90 has to be"),
        ("interpolation", "random", "data.interpolation='random' is not known; it is one of bilinear, bicubic"),
        ("hflip", -1, "data.hflip=-1 has to be"),
        ("batch_size", 0, "data.batch_size=0 has to be a whole number of at least 1"),
        ("batch_size", True, "data.batch_size=True has to be"),
        ("batch_size", 64.5, "data.batch_size=64.5 has to be"),
        ("val_batch_size", "many", "data.val_batch_size='many' has to be"),
        ("num_workers", -1, "data.num_workers=-1 has to be a whole number of at least 0"),
        ("max_bad_images", -1, "data.max_bad_images=-1 has to be a whole number of at least 0"),
        ("split", "", "data.split='' has to be a text"),
        ("split", 3, "data.split=3 has to be a text"),
        ("seed", -1, "seed=-1 has to be a whole number of at least 0"),
        ("root", "somewhere", "data.dataset=digits does not take data.root."),
    ],
)
def test_a_wrong_setting_is_named(make, setting, value, message):
    with pytest.raises(SettingError) as caught:
        make(**{setting: value})
    assert caught.value.as_settings().startswith(message)


def test_a_caller_reads_of_the_argument_and_a_command_of_the_setting():
    with pytest.raises(SettingError) as caught:
        ImageDataModule("digits", img_size="big")
    assert str(caught.value).startswith("img_size='big' has to be")
    assert caught.value.as_settings().startswith("data.img_size='big' has to be")


def test_a_name_is_enough():
    data = ImageDataModule("digits", num_workers=0)
    data.setup()

    assert (data.img_size, data.num_classes, data.mean, data.crop_pct) == (32, 10, (0.3054,) * 3, 1.0)
    assert data.augment == Augmentation()
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
    assert (images.shape, labels.shape) == ((data.batch_size, 3, 32, 32), (data.batch_size,))


def test_what_is_given_comes_before_what_is_known(tmp_path):
    folders = write_class_folders(tmp_path)
    data = ImageDataModule("imagenet", root=str(folders), img_size=64, num_workers=0, expected=None)
    data.setup()

    assert (data.img_size, data.crop_pct, data.num_classes, data.notes) == (64, 0.9, 2, [])
    assert next(iter(data.val_dataloader())).images.shape == (6, 3, 64, 64)


def test_noise_has_as_many_classes_and_pixels_as_are_asked_for():
    data = ImageDataModule("fake", num_classes=3, img_size=[16, 24], num_workers=0)
    data.setup()

    assert data.class_names == ["0", "1", "2"]
    assert data.sets.train[0][0].size == (24, 16)


def test_what_checkpoints_keep_is_plain(make):
    data = make(img_size=[16, 24])
    assert data.preprocessing["class_names"] is None
    data.setup("validate")

    assert json.loads(json.dumps(data.preprocessing)) == data.preprocessing
    assert data.preprocessing == {
        "img_size": [16, 24],
        "mean": [0.3, 0.3, 0.3],
        "std": [0.4, 0.4, 0.4],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "dataset": "digits",
        "class_names": list("0123456789"),
    }


def test_an_evaluation_reads_what_it_evaluates(make, tmp_path):
    folders = write_class_folders(tmp_path)
    data = make(dataset="imagenet", root=str(folders), num_classes=None, batch_size=4)
    (folders / "train").rename(folders / "elsewhere")
    data.setup("validate")
    assert (data.sets.train, data.train_size, data.val_size) == (None, 0, 6)
    assert len(next(iter(data.val_dataloader())).labels) == 6

    (folders / "elsewhere").rename(folders / "train")
    data.setup("fit")
    assert (data.train_size, data.val_size) == (12, 6)
    sets = data.sets
    data.setup("validate")
    assert data.sets is sets


@pytest.mark.parametrize(("split", "size"), [(None, 6), ("train", 12), ("elsewhere", 6)])
def test_the_evaluated_split_is_a_choice(make, tmp_path, split, size):
    folders = write_class_folders(tmp_path)
    (folders / "elsewhere").symlink_to(folders / "val")
    data = make(dataset="imagenet", root=str(folders), num_classes=None, split=split)
    data.setup("validate")

    assert data.val_size == size


def test_a_trainer_s_stage_says_what_to_fetch(make, monkeypatch):
    fetched = []
    monkeypatch.setattr("soft.data.datamodule.fetch", lambda dataset, options, train, split: fetched.append(train))
    for stage in ("validate", "fit", None):
        data = make()
        data.trainer = FakeTrainer(stage=stage)
        data.prepare_data()
    assert fetched == [False, True, True]

    data.setup()
    data.prepare_data()
    assert len(fetched) == 3, "what has been read need not be fetched"


def test_an_evaluation_may_have_fewer_classes_than_there_are(make, tmp_path):
    folders = write_class_folders(tmp_path)
    data = make(dataset="imagenet", root=str(folders / "val"), num_classes=5)
    data.setup("validate")
    assert data.num_classes == 2
    with pytest.raises(SettingError, match="num_classes=1, but imagenet has 2"):
        make(dataset="imagenet", root=str(folders / "val"), num_classes=1).setup("validate")


def test_a_data_set_with_files_needs_a_root(make):
    with pytest.raises(SettingError, match=r"^dataset=imagenet needs root\.$"):
        make(dataset="imagenet")


def test_a_wrong_number_of_classes_is_an_error_and_none_takes_what_is_there(make):
    with pytest.raises(SettingError, match=r"num_classes=7, but digits has 10 classes"):
        make(num_classes=7).setup()
    assert ready(make(num_classes=None)).num_classes == 10


def test_a_batch_larger_than_the_data_is_an_error(make):
    data = ready(make(batch_size=1438))

    for ask in (lambda: data.steps_per_epoch, data.train_dataloader):
        with pytest.raises(SettingError, match=r"batch_size=1438 is more than the 1437 training examples"):
            ask()


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(100, "a multiple of 32, such as 96 or 128"), (20, "a multiple of 32, such as 32.")]
)
def test_a_batch_that_does_not_divide_lists_those_that_do(make, batch_size, advice):
    data = ready(make(batch_size=batch_size), FakeTrainer(world_size=8, accumulate_grad_batches=4))

    with pytest.raises(SettingError, match=f"^batch_size={batch_size} is the global batch") as caught:
        data.train_dataloader()
    assert advice in caught.value.as_settings()
