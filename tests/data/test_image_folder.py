"""ImageNet's layout: whatever real ImageNet contains loads as RGB, and what does not fit is a sentence."""

import shutil
from pathlib import Path

import pytest
import torch
from torchvision.transforms.functional import pil_to_tensor

from soft.data.decoding import decode
from soft.data.image_folder import imagenet
from soft.errors import SettingError

EXPECTED = {"classes": 1000, "train": 1281167, "val": 50000}


@pytest.fixture
def tree(tmp_path, photographs) -> Path:
    """Two classes, ten training and six validation images, with the oddities of the real one."""
    photographs = [photograph.resize((160, 107)) for photograph in photographs]
    for split, count in (("train", 5), ("val", 3)):
        for name, photograph in zip(("n01440764", "n02119789"), photographs, strict=True):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                photograph.crop((i, i, 150 + i, 100 + i)).save(folder / f"{name}_{i}.JPEG", "JPEG")
    odd = tmp_path / "train" / "n01440764"
    photographs[0].convert("L").save(odd / "n01440764_0.JPEG", "JPEG")
    photographs[0].convert("CMYK").save(odd / "n01440764_1.JPEG", "JPEG")
    photographs[0].save(odd / "n01440764_2.JPEG", "PNG")
    photographs[0].convert("P").save(odd / "n01440764_3.JPEG", "PNG", transparency=b"\x00\x80")
    photographs[0].convert("RGBA").save(odd / "n01440764_4.JPEG", "PNG")
    return tmp_path


def test_counts_and_classes_come_from_the_folders(tree):
    sets = imagenet(tree)

    assert (len(sets.train), len(sets.val)) == (10, 6)
    assert sets.class_names == ["n01440764", "n02119789"]
    assert [sets.val[i][1] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert sets.notes == []


def test_every_kind_of_file_loads_as_rgb(tree, photographs):
    sets = imagenet(tree)
    grey, cmyk, png, *_ = loaded = [decode(sets.train[i][0]).float() for i in range(5)]

    assert [image.shape for image in loaded] == [(3, 107, 160)] * 5
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(png, pil_to_tensor(photographs[0].resize((160, 107))))
    assert abs(cmyk - png).mean() < 12, "CMYK keeps its colours, give or take JPEG's loss"


def test_validation_may_be_called_validation(tree):
    (tree / "val").rename(tree / "validation")

    assert len(imagenet(tree).val) == 6


def test_a_note_says_when_it_is_not_the_full_imagenet(tree):
    assert imagenet(tree, EXPECTED).notes == [
        "this is not the full ImageNet-1K: 2 classes, 10 training and 6 validation images "
        "(expected 1000, 1281167, 50000)"
    ]
    assert imagenet(tree, {"classes": 2, "train": 10, "val": 6}).notes == []


def remove(*parts: str):
    return lambda root: shutil.rmtree(root.joinpath(*parts))


def empty(*parts: str):
    def change(root: Path):
        for file in root.joinpath(*parts).rglob("*.JPEG"):
            file.unlink()

    return change


def flatten(split: str):
    def change(root: Path):
        for file in list((root / split).rglob("*.JPEG")):
            file.rename(root / split / file.name)
        for folder in list((root / split).iterdir()):
            if folder.is_dir():
                folder.rmdir()

    return change


def add_classes(root: Path):
    for i in range(5):
        (root / "train" / f"n0{i}").mkdir()


def remove_both(root: Path):
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "data.root={root} is not a folder. Set data.root or $IMAGENET_ROOT to the folder that holds"),
        (remove_both, "data.root={root} is empty. Set data.root or $IMAGENET_ROOT"),
        (remove("train"), "data.root={root} has no train/ folder. Set data.root or $IMAGENET_ROOT"),
        (
            remove("val"),
            "data.root={root} has train/ but neither val/ nor validation/. Set data.root or $IMAGENET_ROOT",
        ),
        (flatten("val"), "{root}/val (data.root) holds no class folders; its images must be sorted into one folder"),
        (remove("val", "n02119789"), "(data.root) must be the same, but only one of them has n02119789."),
        (add_classes, "(data.root) must be the same, but only one of them has n00, n01, n02 and 2 more."),
        (empty("val"), "{root}/val (data.root) holds no images; these count: .jpg, .jpeg"),
        (empty("train", "n02119789"), "{root}/train (data.root) has class folders without images: n02119789."),
    ],
    ids=[
        "missing",
        "empty",
        "no train",
        "no val",
        "flat val",
        "class gone",
        "classes added",
        "no images",
        "empty class",
    ],
)
def test_a_tree_that_does_not_fit_is_explained(tree, change, message):
    change(tree)

    with pytest.raises(SettingError) as caught:
        imagenet(tree, EXPECTED)
    assert message.format(root=tree) in str(caught.value)
    assert "\n" not in str(caught.value)
