"""Shards, ours and others', give what the folder gives, and what is wrong with them is a sentence."""

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from soft.data.bad_images import UnreadableImageError
from soft.data.datamodule import ImageDataModule
from soft.data.image_folder import imagenet
from soft.data.image_sets import ImageSets, labels_of
from soft.data.shard_writer import plan_shards, write_shards
from soft.data.shards import imagenet_shards
from soft.errors import SettingError
from tests.data.class_folders import write_class_folders
from tests.data.test_datamodule import FakeTrainer


def write(root: Path, out: Path, shuffle: bool = False) -> Path:
    write_shards(plan_shards(root, out, shard_size=1, shuffle=shuffle, seed=0), out, out, lambda size: None)
    return out


def read(root: Path | str, **changes) -> ImageSets:
    options = dict(train_shards="train-*.tar", val_shards="val-*.tar", json_label="label", cache=f"{root}/cache")
    return imagenet_shards(root, **options | changes)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Enough for two shards of a MiB."""
    return write_class_folders(tmp_path_factory.mktemp("tree"), train=8, val=3, size=(420, 320))


@pytest.fixture
def shards(tree, tmp_path) -> Path:
    return write(tree, tmp_path / "shards")


def assert_same(found: ImageSets, expected: ImageSets) -> None:
    assert found.class_names == expected.class_names
    for split in ("train", "val"):
        images, others = getattr(found, split), getattr(expected, split)
        assert len(images) == len(others) > 0
        assert labels_of(images).tolist() == [label for _, label in others]
        for i in range(len(images)):
            assert images[i][1] == others[i][1]
            assert np.array_equal(images[i][0], others[i][0])


@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_hold_the_folders_images_in_the_folders_order(tree, tmp_path, shuffle):
    root = write(tree, tmp_path, shuffle)
    labels = [label for *_, label in _samples(root / "train-000000.tar")]

    assert len(list(root.glob("train-*.tar"))) > 1
    assert (labels == sorted(labels)) == (not shuffle), "the samples themselves are shuffled on request"
    assert_same(read(root), imagenet(tree))


def _samples(*paths: Path) -> list[tuple[str, bytes, int]]:
    """(key, image file, label) as WebDataset's own reader gives them."""
    stream = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False)
    return [(each["__key__"], each.get("jpg", each.get("png")), int(each["cls"])) for each in stream]


def test_webdataset_reads_ours_and_finds_the_files_as_they_are(tree, shards):
    files = imagenet(tree).train.samples

    assert _samples(*sorted(shards.glob("train-*.tar"))) == [
        (f"{i:08d}", Path(path).read_bytes(), label) for i, (path, label) in enumerate(files)
    ]


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (2, 1), (1, 2)])
def test_training_batches_are_those_of_the_folder(tree, shards, make, workers, world):
    """Augmentation and all: on one rank and two, with any number of workers, in the second epoch."""
    common = dict(num_classes=None, batch_size=8, val_batch_size=4)
    options = dict(train_shards="train-*.tar", val_shards="val-*.tar", json_label="label", cache="nowhere")
    for rank in range(world):
        folder = make(dataset="imagenet", root=str(tree), **common)
        ours = make(dataset="imagenet_wds", root=str(shards), num_workers=workers, **options, **common)
        for expected, found in zip(_batches(folder, world, rank), _batches(ours, world, rank), strict=True):
            assert torch.equal(expected.images, found.images)
            assert torch.equal(expected.labels, found.labels)
            assert expected.erase_seeds == found.erase_seeds


def _batches(data: ImageDataModule, world: int, rank: int) -> list:
    data.trainer = FakeTrainer(world, rank)
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    return [*loader, *data.val_dataloader()]


def write_foreign(root: Path, samples: dict[str, list[dict]]) -> Path:
    """Shards by WebDataset's own writer: two of them, whatever the split."""
    root.mkdir(exist_ok=True)
    for split, members in samples.items():
        with webdataset.ShardWriter(f"{root}/{split}-%04d.tar", maxcount=-(-len(members) // 2), verbose=0) as writer:
            for member in members:
                writer.write(member)
    return root


def labelled(files: list[tuple[str, int]], label) -> list[dict]:
    return [
        {"__key__": f"a.folder/{i:03d}", Path(path).suffix.lower()[1:]: Path(path).read_bytes(), **label(number)}
        for i, (path, number) in enumerate(files)
    ]


LABELS = {
    "cls": (lambda number: {"cls": number}, {}),
    "cls beside a caption": (lambda number: {"cls": number, "txt": "a fish", "json": {"label": "fish"}}, {}),
    "json": (lambda number: {"json": {"caption": "a fish", "label": number}, "txt": "a fish"}, {}),
    "other json": (lambda number: {"json": {"category": str(number)}}, {"json_label": "category"}),
}


@pytest.mark.parametrize(("label", "changes"), LABELS.values(), ids=LABELS)
def test_shards_of_other_tools(tree, tmp_path, label, changes):
    folder = imagenet(tree)
    sets = {split: labelled(getattr(folder, split).samples, label) for split in ("train", "val")}
    found = read(write_foreign(tmp_path / "foreign", sets), **changes)

    folder.class_names = ["0", "1"]
    assert_same(found, folder)
    assert found.notes == []


def test_classes_without_training_images_are_noted(tree, tmp_path):
    files = imagenet(tree).train.samples
    shifted = labelled(files, lambda number: {"cls": number + 1})
    root = write_foreign(tmp_path / "foreign", {"train": shifted, "val": shifted})

    assert read(root).notes == [
        "1 of 3 classes have no training image: 0",
        "1 of 3 classes have no validation image: 0",
    ]
    (note,) = read(root, expected={"classes": 3, "train": 1, "val": 1}).notes[2:]
    assert note.startswith("this is not the full ImageNet-1K: 3 classes, 16 training")


def test_only_what_is_evaluated_is_read(tree, shards):
    for shard in shards.glob("train-*.tar"):
        shard.unlink()
    found = read(shards, train=False, expected={"classes": 2, "train": 0, "val": 6})

    assert (found.train, found.class_names, found.notes) == (None, ["n01440764", "n02119789"], [])
    assert [found.val[i][1] for i in range(6)] == [0, 0, 0, 1, 1, 1]


def test_any_split_can_be_evaluated(tree, shards):
    for shard in list(shards.glob("val-*.tar")):
        shard.rename(shard.with_name(shard.name.replace("val", "test")))

    assert len(read(shards, train=False, split="test").val) == 6
    assert len(read(shards, train=False, split="train").val) == 16
    assert len(read(shards, split="test").train) == 16
    with pytest.raises(SettingError) as caught:
        read(shards, train=False, split="tset")
    assert f"data.root={shards} has no tset-*.tar (data.split=tset)" in caught.value.as_settings()


def test_hidden_files_in_shards_are_no_images(tree, shards, tmp_path):
    """As macOS packs a folder."""
    before = read(shards)
    (shards / "shards.json").unlink()
    (tmp_path / "x").write_bytes(b"no image")
    with tarfile.open(shards / "val-000000.tar", "a") as tar:
        for name in ("._00000000.jpg", "./.ipynb_checkpoints/a.jpg", "__MACOSX/b.jpg", ".c/d.jpg"):
            tar.add(tmp_path / "x", name)
    after = read(shards)

    assert (len(after.train), len(after.val), after.notes) == (16, 6, [])
    assert np.array_equal(after.val.index.label, before.val.index.label)


def test_samples_whose_image_is_not_read_are_counted(tree, tmp_path):
    samples = labelled(imagenet(tree).train.samples, lambda number: {"cls": number})
    for sample in samples[1:4]:
        sample["heic"] = sample.pop("jpg", None) or sample.pop("png", None) or sample.pop("jpeg")
    samples[5] = {"__key__": samples[5]["__key__"], "cls": 0}
    for sample in samples[6:8]:
        sample["gif" if "png" in sample else "jfif"] = sample.pop("png", None) or sample.pop("jpeg")
    root = write_foreign(tmp_path / "foreign", {"train": samples, "val": samples[8:]})
    for _ in range(2):  # the second time from the index
        found = read(root)
        assert len(found.train) == 12
        assert found.notes[0] == ("samples of train-*.tar that are left out, not being read as images: 1 .cls, 3 .heic")


def test_ranges_and_folders_name_shards(shards):
    both = {path.name for path in shards.glob("train-*.tar")}
    (shards / "train").mkdir()
    for name in both:
        (shards / name).rename(shards / "train" / name)
    (shards / "shards.json").unlink()

    named = read(shards, train_shards="train/train-{000000..000001}.tar", val_shards=str(shards / "val-*.tar"))
    assert {Path(path).name for path in named.train.shards} == both
    part = read(shards, train_shards="train/train-000000.tar")
    assert 0 < len(part.train) < len(named.train)


def test_a_part_of_what_was_written_is_noted(shards):
    assert read(shards, train_shards="train-{000000..000000}.tar").notes == ["1 train shards are read, 2 were written"]


def remove(name: str):
    return lambda root: (root / name).unlink()


def cut(end: int):
    def change(root: Path):
        shard = root / "train-000000.tar"
        shard.write_bytes(shard.read_bytes()[:end])

    return change


def cut_between_samples(root: Path):
    with tarfile.open(root / "train-000000.tar") as tar:
        end = tar.getmembers()[4].offset
    cut(end)(root)


def flip_header(root: Path):
    with tarfile.open(root / "train-000000.tar") as tar:
        place = tar.getmembers()[4].offset
    shard = root / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[place + 3] ^= 1
    shard.write_bytes(content)


def compress(root: Path):
    shard = root / "train-000000.tar"
    shard.write_bytes(gzip.compress(shard.read_bytes()))


def change_manifest(change):
    def apply(root: Path):
        manifest = json.loads((root / "shards.json").read_text())
        change(manifest)
        (root / "shards.json").write_text(json.dumps(manifest))

    return apply


def add_member(name: str, content: bytes):
    def change(root: Path):
        (root / "content").write_bytes(content)
        with tarfile.open(root / "val-000000.tar", "a") as tar:
            tar.add(root / "content", name)

    return change


def empty_shards(root: Path):
    for shard in root.glob("val-*.tar"):
        tarfile.open(shard, "w").close()


NOT_AS_WRITTEN = {
    "no shards": ({}, lambda root: [path.unlink() for path in root.glob("*.tar")], "has no train-*.tar (data.train"),
    "folders alone": (
        {"train_shards": "more-*.tar"},
        lambda root: (root / "more-0.tar").mkdir(),
        "has no more-*.tar (data.train_shards=more-*.tar); it holds",
    ),
    "other names": ({"train_shards": "imagenet-*.tar"}, lambda root: None, "it holds train-000000.tar, train-000001"),
    "no such number": ({"train_shards": "train-{000000..000002}.tar"}, lambda root: None, "has no train-000002.tar"),
    "no text": ({"val_shards": None}, lambda root: None, "data.val_shards=None has to be a text"),
    "shard gone": (
        {},
        remove("train-000001.tar"),
        "lacks 1 of the 2 train shards that were written, such as train-000001",
    ),
    "not finished": ({}, lambda root: (root / "shards.json").rename(root / "shards.unfinished.json"), "incomplete"),
    "empty file": ({}, cut(0), "train-000000.tar (data.root) cannot be read as a tar file: empty file"),
    "cut in an image": ({}, cut(20_000), "train-000000.tar (data.root) cannot be read as a tar file: unexpected end"),
    "cut between samples": ({}, cut_between_samples, "train-000000.tar (data.root) is damaged at byte"),
    "damaged header": ({}, flip_header, "train-000000.tar (data.root) is damaged at byte"),
    "compressed": ({}, compress, "must be complete and not compressed"),
    "no images": ({}, empty_shards, "The shards val-*.tar in {root} (data.val_shards=val-*.tar) hold no images"),
    "no label": ({}, add_member("a.jpg", b""), "has no label for a: neither a.cls nor a.json with a field 'label'"),
    "other images": ({}, change_manifest(lambda written: written["val"].update(images=7)), "hold 6 images, but 7 were"),
    "other classes": ({}, change_manifest(lambda written: written["classes"].pop()), "hold label 1, but shards.json"),
    "no manifest": ({}, lambda root: (root / "shards.json").write_text("{"), "shards.json (data.root) is damaged"),
}


@pytest.mark.parametrize(("changes", "change", "message"), NOT_AS_WRITTEN.values(), ids=NOT_AS_WRITTEN)
def test_what_is_not_as_written_is_a_sentence(shards, changes, change, message):
    read(shards)
    change(shards)

    with pytest.raises(SettingError) as caught:
        read(shards, **changes)
    assert message.format(root=shards) in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"cls": b"fish"}, "a.folder/000.cls in {root}/train-0000.tar (data.root) holds b'fish', not a class number"),
        ({"cls": b"-1"}, "holds b'-1', not a class number from 0"),
        ({"json": {"label": 1.5}}, "a.folder/000.json, field label (data.json_label), in"),
        ({"json": [1]}, "has no label for a.folder/000"),
        ({"json": b"{"}, "has no label for a.folder/000"),
        ({"cls": b"123456789"}, "labels go up to 123456789; class numbers are meant"),
    ],
    ids=["word", "negative", "half", "list", "no json", "huge"],
)
def test_labels_that_are_none_are_refused(tree, tmp_path, label, message):
    samples = labelled(imagenet(tree).train.samples[:2], lambda number: label)
    root = write_foreign(tmp_path / "foreign", {"train": samples, "val": samples})

    with pytest.raises(SettingError) as caught:
        read(root)
    assert message.format(root=root) in caught.value.as_settings()


def test_a_bad_image_is_named_by_its_shard_and_key(tree, tmp_path):
    samples = labelled(imagenet(tree).train.samples[:3], lambda number: {"cls": number})
    samples[1]["jpg"] = b"no image"
    root = write_foreign(tmp_path / "foreign", {"train": samples, "val": samples})

    with pytest.raises(
        UnreadableImageError, match=r"foreign/train-0000.tar/a.folder/001.jpg cannot be read as an image"
    ):
        read(root).train[1]


def test_a_shard_that_goes_away_during_training_is_named(shards):
    sets = read(shards)
    (shards / "train-000000.tar").unlink()

    with pytest.raises(SettingError, match=r"train-000000.tar cannot be read any more: No such file"):
        sets.train[0]
