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
        (shutil.rmtree, "data.root={root} is not a folder. Set data.root to the folder that holds"),
        (remove_both, "data.root={root} is empty. Set data.root to"),
        (remove("train"), "data.root={root} has no train/ folder. Set data.root to"),
        (
            remove("val"),
            "data.root={root} has train/ but neither val/ nor validation/. Set data.root to",
        ),
        (flatten("val"), "{root}/val (data.root) holds no class folders; its images must be sorted into one folder"),
        (remove("val", "n02119789"), "(data.root) must be the same, but only one of them has n02119789."),
        (add_classes, "(data.root) must be the same, but only one of them has n00, n01, n02 and 2 more."),
        (empty("val"), "{root}/val (data.root) holds no images; these extensions count: .jpg, .jpeg"),
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
    assert message.format(root=tree) in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()


def litter(root: Path) -> None:
    """What systems and programs leave in folders."""
    for folder in (root, *root.iterdir(), *root.glob("*/*")):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / "__MACOSX").mkdir()
        for name in (".DS_Store", "Thumbs.db", "._x.JPEG", ".ipynb_checkpoints/x.JPEG", "__MACOSX/x.JPEG"):
            (folder / name).write_bytes(b"no image")


def test_hidden_files_and_folders_are_none_of_ours(tree):
    before = imagenet(tree)
    litter(tree)
    after = imagenet(tree)

    assert (after.train.samples, after.val.samples) == (before.train.samples, before.val.samples)
    assert (after.class_names, after.notes) == (before.class_names, [])


def test_files_that_are_not_read_are_counted(tree):
    for number, name in enumerate(("a.heic", "b.HEIC", "c.txt")):
        (tree / "train" / ("n01440764", "n02119789")[number % 2] / name).touch()
    (tree / "val" / "n01440764" / "n01440764_0.JPEG").rename(tree / "val" / "x.JPEG")

    assert imagenet(tree).notes == [
        f"files in {tree}/train that are left out, not being read as images: 2 .heic, 1 .txt",
        f"images in {tree}/val that are left out, not being in a class folder: 1",
    ]


def test_an_extension_that_is_read_no_more_is_named(tree):
    for file in list((tree / "val").rglob("*.JPEG")):
        file.rename(file.with_suffix(".heic"))

    with pytest.raises(
        SettingError, match=r"these extensions count: \.jpg.*\. It holds files with the extension \.heic"
    ):
        imagenet(tree)


def test_other_names_of_formats_are_images(tree):
    for suffix, file in zip((".jfif", ".JFIF", ".gif"), sorted((tree / "train" / "n02119789").iterdir()), strict=False):
        file.rename(file.with_suffix(suffix))
    sets = imagenet(tree)

    assert (len(sets.train), sets.notes) == (10, [])
    assert [decode(sets.train[index][0]).shape for index in range(5, 10)] == [(3, 100, 150)] * 5


def test_numbered_folders_are_in_the_order_of_their_numbers(tree):
    for split in ("train", "val"):
        for number in range(12):
            shutil.copytree(tree / split / "n02119789", tree / split / str(number))
        for name in ("n01440764", "n02119789"):
            shutil.rmtree(tree / split / name)
    sets = imagenet(tree)

    assert sets.class_names == [str(number) for number in range(12)]
    assert {Path(path).parent.name: label for path, label in sets.val.samples}["10"] == 10


def evaluate(root: Path, **options):
    return imagenet(root, train=False, **options)


def paths(images) -> list[str]:
    return [path for path, _ in images.samples]


def test_to_evaluate_a_folder_is_enough(tree):
    """As val/ alone, as test/ alone, and as class folders alone."""
    whole = imagenet(tree)
    shutil.rmtree(tree / "train")
    found = evaluate(tree, expected={"classes": 2, "train": 10, "val": 6})
    assert (found.train, found.class_names, found.notes) == (None, whole.class_names, [])
    assert found.val.samples == whole.val.samples

    (tree / "val").rename(tree / "test")
    for root in (tree, tree / "test"):
        found = evaluate(root, expected=EXPECTED)
        assert [label for _, label in found.val.samples] == [0, 0, 0, 1, 1, 1]
        assert found.notes == [f"the images of {tree}/test are evaluated"]


@pytest.mark.parametrize("split", ["test", "train", "my test"])
def test_any_split_can_be_evaluated(tree, split):
    if split != "train":
        (tree / "val").rename(tree / split)
    found = evaluate(tree, split=split)

    assert all(path.startswith(f"{tree}/{split}/") for path in paths(found.val))
    assert found.notes == [f"the images of {tree}/{split} are evaluated"]


@pytest.mark.parametrize("split", ["val", "validation"])
@pytest.mark.parametrize("name", ["val", "validation"])
def test_the_validation_images_have_two_names(tree, split, name):
    (tree / "val").rename(tree / name)

    assert evaluate(tree, split=split).notes == []
    assert len(imagenet(tree, split=split).val) == 6


def test_training_validates_on_the_split_that_is_asked_for(tree):
    (tree / "val").rename(tree / "test")
    with pytest.raises(SettingError) as caught:
        imagenet(tree)
    assert caught.value.as_settings().endswith("neither val/ nor validation/. data.split=test validates on test/.")

    sets = imagenet(tree, split="test", expected={"classes": 2, "train": 10, "val": 0})
    assert (len(sets.train), len(sets.val), sets.notes) == (10, 6, [])


def test_numbers_that_are_not_expected_are_not_compared(tree):
    for expected in ({"classes": 2, "train": None, "val": 6}, {"classes": 2}, {}):
        assert imagenet(tree, expected=expected).notes == []
    (note,) = imagenet(tree, expected={"classes": 2, "train": None, "val": 7}).notes
    assert note.endswith("2 classes, 10 training and 6 validation images (expected 2, any, 7)")


def test_training_folders_name_classes_that_the_evaluated_images_lack(tree):
    shutil.rmtree(tree / "val" / "n01440764")
    found = evaluate(tree)

    assert found.class_names == ["n01440764", "n02119789"]
    assert {label for _, label in found.val.samples} == {1}
    assert found.notes == [f"1 of 2 classes have no image in {tree}/val, such as n01440764"]


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        (remove("val"), None, "data.root={root} has train/ but none of val/, validation/ and test/. data.split=train"),
        (lambda root: None, "tset", "data.split=tset is not a folder in data.root={root}; there are train, val."),
        (flatten("val"), None, "{root}/val (data.root) holds no class folders"),
        (empty("val"), None, "{root}/val (data.root) holds no images"),
    ],
    ids=["training images alone", "no such split", "flat", "empty"],
)
def test_what_cannot_be_evaluated_is_explained(tree, change, split, message):
    change(tree)

    with pytest.raises(SettingError) as caught:
        evaluate(tree, split=split)
    assert message.format(root=tree) in caught.value.as_settings()
