"""Each data set is what its docstring says, and missing or damaged files are a sentence."""

import gzip
import inspect
import pickle
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets.cifar
import torchvision.datasets.mnist
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from soft.data.datasets import BUILDERS, DOWNLOADS
from soft.data.in_memory import (
    FASHION_MNIST_FILES,
    cifar10,
    digits,
    download_cifar10,
    download_fashion_mnist,
    fake,
    fashion_mnist,
)
from soft.errors import SettingError


def check_images(images, classes: int, size: tuple[int, int]):
    for index in (0, len(images) - 1):
        image, label = images[index]
        assert image.mode == "RGB"
        assert image.size == size
        assert type(label) is int
        assert 0 <= label < classes


def test_every_download_belongs_to_a_builder_with_a_root():
    for name in DOWNLOADS:
        assert "root" in inspect.signature(BUILDERS[name]).parameters


def test_digits():
    sets = digits()

    assert (len(sets.train), len(sets.val)) == (1437, 360)
    assert sets.class_names == list("0123456789")
    check_images(sets.train, 10, (8, 8))
    check_images(sets.val, 10, (8, 8))
    assert sets.train.images.max() == 255
    assert min(np.bincount(sets.val.labels)) >= 34, "every class has its share of the 360"
    assert np.array_equal(digits().val.images, sets.val.images), "the split is always the same"


def test_digits_keep_images_and_labels_together():
    source, sets = load_digits(), digits()
    label_of = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(source.images, source.target, strict=True)
    }

    for images in (sets.train, sets.val):
        assert [label_of[image.tobytes()] for image in images.images] == images.labels.tolist()


def test_fake_images_are_noise_that_never_changes():
    sets = fake(train_images=12, val_images=5, classes=3, source_size=[20, 30])
    again = fake(train_images=12, val_images=5, classes=3, source_size=[20, 30])

    assert (len(sets.train), len(sets.val), sets.class_names) == (12, 5, ["0", "1", "2"])
    check_images(sets.train, 3, (30, 20))
    assert {sets.train[i][1] for i in range(12)} == {0, 1, 2}
    assert sets.train[4] == again.train[4]
    assert len({sets.train[i][0].tobytes() for i in range(12)} | {sets.val[i][0].tobytes() for i in range(5)}) == 17
    assert sets.notes == ["the images are random noise: accuracy means nothing"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("train_images", 0), ("val_images", "few"), ("classes", 2.5), ("source_size", [8]), ("source_size", 0)],
)
def test_fake_names_the_wrong_option(option, value):
    options = dict(train_images=12, val_images=5, classes=3, source_size=8) | {option: value}

    with pytest.raises(SettingError, match=f"^{option}="):
        fake(**options)


def write_idx(path: Path, array: np.ndarray):
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def small_fashion_mnist(tmp_path) -> Path:
    """Six training and four validation images in the real layout; two of the files compressed, two not."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(10, 28, 28), dtype=np.uint8)
    labels = np.arange(10, dtype=np.uint8)
    for name, array in zip(FASHION_MNIST_FILES, (pixels[:6], labels[:6], pixels[6:], labels[6:]), strict=True):
        write_idx(folder / (name if "labels" in name else f"{name}.gz"), array)
    return tmp_path


def test_fashion_mnist_reads_files_packed_or_not_and_writes_nothing(small_fashion_mnist):
    before = sorted(path.name for path in small_fashion_mnist.rglob("*"))
    download_fashion_mnist(small_fashion_mnist)
    sets = fashion_mnist(small_fashion_mnist)

    assert (len(sets.train), len(sets.val), len(sets.class_names)) == (6, 4, 10)
    assert [sets.val[i][1] for i in range(4)] == [6, 7, 8, 9]
    check_images(sets.train, 10, (28, 28))
    assert sorted(path.name for path in small_fashion_mnist.rglob("*")) == before


def test_fashion_mnist_is_complete(fashion_mnist_root):
    sets = fashion_mnist(fashion_mnist_root)

    assert (len(sets.train), len(sets.val)) == (60_000, 10_000)
    assert sets.class_names[9] == "Ankle boot"
    assert set(np.bincount(sets.train.labels)) == {6000}
    assert sets.train[0][1] == 9, "the first training image is an ankle boot"


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b and then not", None], ids=["empty", "garbage", "cut off"])
def test_a_damaged_fashion_mnist_file_is_named(small_fashion_mnist, damage):
    file = small_fashion_mnist / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-200] if damage is None else damage)

    with pytest.raises(SettingError, match=r"t10k-images-idx3-ubyte\.gz \(root\) is damaged"):
        fashion_mnist(small_fashion_mnist)


def offline(*args, **kwargs):
    raise URLError("no network in tests")


def test_fashion_mnist_says_which_files_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", offline)

    for call in (fashion_mnist, download_fashion_mnist):
        with pytest.raises(SettingError) as caught:
            call(tmp_path)
        message = caught.value.as_settings()
        assert f"data.root={tmp_path}" in message
        assert str(tmp_path / "FashionMNIST" / "raw") in message
        assert all(name in message for name in FASHION_MNIST_FILES)


def test_cifar10_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)

    for call in (cifar10, download_cifar10):
        with pytest.raises(SettingError) as caught:
            call(tmp_path)
        assert f"data.root={tmp_path}" in caught.value.as_settings()
        assert "cifar-10-python.tar.gz" in caught.value.as_settings()


def test_cifar10_reads_the_official_layout(tmp_path, monkeypatch):
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        batch = {"data": rng.integers(256, size=(4, 3072), dtype=np.uint8), "labels": [3, 1, 2, 0]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())

    download_cifar10(tmp_path)
    sets = cifar10(tmp_path)

    assert (len(sets.train), len(sets.val)) == (20, 4)
    for split, size in (("test", 4), ("val", 4), ("train", 20)):
        assert len(cifar10(tmp_path, train=False, split=split).val) == size
    assert sets.class_names == list("abcdefghij")
    assert [sets.val[i][1] for i in range(4)] == [3, 1, 2, 0]
    check_images(sets.train, 10, (32, 32))


SPLITS = {
    "digits": (lambda **options: digits(**options), 360, 1437),
    "fake": (lambda **options: fake(12, 5, 3, 8, **options), 5, 12),
}


@pytest.mark.parametrize(("build", "val", "train"), SPLITS.values(), ids=SPLITS)
def test_any_part_can_be_evaluated(build, val, train):
    for split, size in ((None, val), ("val", val), ("validation", val), ("train", train)):
        sets = build(train=False, split=split)
        assert (sets.train, len(sets.val)) == (None, size)
        assert len(build(split=split).train) == train
    with pytest.raises(SettingError) as caught:
        build(split="test")
    assert caught.value.as_settings().startswith("data.split=test is not a part of ")
    assert caught.value.as_settings().endswith("which has val, validation, train.")


def test_the_official_test_set_is_the_validation_set(small_fashion_mnist):
    for name in FASHION_MNIST_FILES[:2]:
        for file in (small_fashion_mnist / "FashionMNIST" / "raw").glob(f"{name}*"):
            file.write_bytes(b"")
    sets = fashion_mnist(small_fashion_mnist, train=False, split="test")

    assert (sets.train, len(sets.val)) == (None, 4), "the training files are not read"


def test_a_part_of_fashion_mnist_says_which_classes_it_lacks(small_fashion_mnist):
    assert fashion_mnist(small_fashion_mnist, train_images=4).notes == [
        "the first 4 training images show none of the classes Coat, Sandal, Shirt and 3 more"
    ]
    assert fashion_mnist(small_fashion_mnist, train_images=4, train=False).notes == []
