"""Hugging Face sets, from folders alone: the Hub is not needed."""

import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

from soft.data.datasets import BUILDERS
from soft.data.hugging_face import hugging_face
from soft.data.image_folder import imagenet
from soft.data.image_sets import ImageSets
from soft.errors import SettingError
from tests.data.class_folders import write_class_folders
from tests.data.test_shards import assert_same

OPTIONS = dict(
    subset=None,
    revision=None,
    train_split="train",
    val_split="validation",
    image_column="image",
    label_column="label",
)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("tree"))


def read(path: Path, **changes) -> ImageSets:
    return hugging_face(str(path), **OPTIONS | changes)


def save(path: Path, columns: dict[str, list], val: dict[str, list] | None = None) -> Path:
    splits = {"train": columns, "validation": val or columns}
    datasets.DatasetDict({name: datasets.Dataset.from_dict(part) for name, part in splits.items()}).save_to_disk(path)
    return path


def images(tree: Path) -> list[bytes]:
    return [Path(path).read_bytes() for path, _ in imagenet(tree).train.samples]


def test_class_folders_give_the_folders_images(tree):
    assert_same(read(tree), imagenet(tree))


def test_a_saved_set_gives_the_same_from_its_own_bytes(tree, tmp_path):
    datasets.load_dataset(str(tree)).save_to_disk(tmp_path / "saved")
    moved = (tmp_path / "saved").rename(tmp_path / "moved")

    assert_same(read(moved), imagenet(tree))


@pytest.fixture(scope="module")
def shuffled(tree, tmp_path_factory) -> tuple[Path, Path]:
    """The training images in another order, as `save_to_disk` writes one split and several."""
    folder = tmp_path_factory.mktemp("shuffled")
    rows = datasets.load_dataset(str(tree), split="train", cache_dir=str(folder / "hf")).shuffle(seed=0)
    rows.save_to_disk(folder / "one")
    rows.train_test_split(test_size=4, seed=0).save_to_disk(folder / "two")
    return folder / "one", folder / "two"


def labels(images) -> list[int]:
    return [images[i][1] for i in range(len(images))]


def test_parts_of_splits(tree):
    sets = read(tree, train_split="train[:75%]", val_split="train[75%:]")

    assert (labels(sets.train), labels(sets.val)) == ([0] * 6 + [1] * 3, [1] * 3)
    assert sets.notes == ["1 of 2 classes have no image in train[75%:]: n01440764"]


def test_parts_of_a_saved_set_are_those_of_its_rows(shuffled):
    one, two = shuffled
    rows = datasets.load_from_disk(one)["label"]
    sets = read(one, train_split="train[:75%]", val_split="train[75%:]")
    assert (labels(sets.train), labels(sets.val)) == (rows[:9], rows[9:])

    saved = datasets.load_from_disk(two)
    sets = read(two, train_split="train[:6]", val_split="test+train[6:]")
    assert labels(sets.train) == saved["train"]["label"][:6]
    assert labels(sets.val) == [*saved["test"]["label"], *saved["train"]["label"][6:]]


def test_only_what_is_evaluated_is_read(tree, shuffled, monkeypatch):
    sets = read(tree, train=False, train_split="no such split")
    assert (sets.train, labels(sets.val)) == (None, [0] * 3 + [1] * 3)
    assert labels(read(tree, train=False, split="train[:7]").val) == [0] * 6 + [1]
    assert len(read(shuffled[1], train=False, split="test").val) == 4


def test_classes_that_are_never_trained_are_an_error(tree):
    """Class folders are read one after the other, so that a share of the rows is a share of the classes."""
    with pytest.raises(SettingError) as caught:
        read(tree, train_split="train[:50%]", val_split="train[50%:]")
    message = caught.value.as_settings()
    assert message.startswith("1 of 2 classes are in train[50%:] and not in train[:50%]: n02119789. The rows may be")
    assert "data.train_split" in message


def test_words_that_are_numbers_are_in_their_order(tree, tmp_path):
    path = save(tmp_path / "saved", {"image": images(tree), "label": [str(label) for label in range(12)]})
    sets = read(path)

    assert sets.class_names == [str(label) for label in range(12)]
    assert labels(sets.val) == list(range(12))


def test_rows_are_read_in_loader_processes(tree, make):
    data = make(
        dataset="hf", num_classes=None, batch_size=4, val_batch_size=3, num_workers=2, path=str(tree), **OPTIONS
    )
    data.setup()

    assert np.concatenate([batch.labels for batch in data.val_dataloader()]).tolist() == [0, 0, 0, 1, 1, 1]
    assert len(list(data.train_dataloader())) == 3


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([1, 0, 2] * 4, ["0", "1", "2"], [1, 0, 2]),
        (["fox", "bee", "cat"] * 4, ["bee", "cat", "fox"], [2, 0, 1]),
    ],
    ids=["numbers", "words"],
)
def test_labels_of_every_kind(tree, tmp_path, labels, names, numbers):
    path = save(tmp_path / "saved", {"picture": images(tree), "kind": labels})
    sets = read(path, image_column="picture", label_column="kind")

    assert sets.class_names == names
    assert [sets.train[i][1] for i in range(3)] == numbers
    assert np.array_equal(sets.train[0][0], imagenet(tree).train[0][0])


NOT_FITTING = {
    "no split": ({}, dict(val_split="test"), "has no split test (data.val_split), but train, validation. Parts are"),
    "no part": ({}, dict(val_split="train[:9"), "has no split train[:9 (data.val_split), but train, validation."),
    "no rows": ({}, dict(val_split="train[:0]"), "data.val_split=train[:0] is a part of data.path="),
    "no image column": (
        {},
        dict(image_column="img"),
        "data.image_column=img is not in the data set; it has image, label",
    ),
    "no label column": ({}, dict(label_column="fine"), "data.label_column=fine is not in the data set; it has image,"),
    "no images": ({}, dict(image_column="label"), "data.image_column=label holds no images"),
    "no text": ({}, dict(train_split=None), "data.train_split=None has to be a text"),
    "no labels": ({"label": [-1] * 12}, {}, "data.label_column=label has to hold class numbers from 0 or class names"),
    "halves": ({"label": [0.5] * 12}, {}, "has to hold class numbers from 0 or class names, and not such as [0.5"),
}


@pytest.mark.parametrize(("columns", "changes", "message"), NOT_FITTING.values(), ids=NOT_FITTING)
def test_what_does_not_fit_is_a_sentence(tree, tmp_path, columns, changes, message):
    path = save(tmp_path / "saved", {"image": images(tree), "label": [0, 1] * 6} | columns)

    with pytest.raises(SettingError) as caught:
        read(path, **changes)
    assert message in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()


def named(tree: Path, words: list[str], names: list[str]) -> datasets.Dataset:
    """Return one row for each word, whose label is the word's place in `names`."""
    features = datasets.Features({"image": datasets.Value("binary"), "label": datasets.ClassLabel(names=names)})
    rows = {"image": images(tree)[: len(words)], "label": [names.index(word) for word in words]}
    return datasets.Dataset.from_dict(rows, features)


@pytest.mark.parametrize("own", [["bee", "cat"], ["cat", "fox", "bee", "ant"]], ids=["fewer", "another order"])
def test_a_split_with_its_own_class_names_is_read_by_name(own, tree, tmp_path):
    train, val = named(tree, ["ant", "bee", "cat"], ["ant", "bee", "cat"]), named(tree, ["bee", "cat"], own)
    datasets.DatasetDict(train=train, validation=val).save_to_disk(tmp_path / "saved")
    sets = read(tmp_path / "saved")
    assert [sets.class_names[label] for label in labels(sets.val)] == ["bee", "cat"]
    with pytest.raises(SettingError, match=r"joins splits of .* with different columns or class names"):
        read(tmp_path / "saved", val_split="train+validation")


def test_class_names_that_cannot_be_matched_are_refused(tree, tmp_path):
    train, val = named(tree, ["ant", "bee"], ["ant", "bee"]), named(tree, ["fox"], ["ant", "fox"])
    datasets.DatasetDict(train=train, validation=val).save_to_disk(tmp_path / "other")
    with pytest.raises(SettingError, match=r"validation has the class 'fox' .* none of the 2 classes of the training"):
        read(tmp_path / "other")
    numbers = datasets.Dataset.from_dict({"image": images(tree)[:2], "label": [0, 1]})
    datasets.DatasetDict(train=numbers, validation=val).save_to_disk(tmp_path / "numbers")
    with pytest.raises(SettingError, match=r"label has class names in the validation split alone"):
        read(tmp_path / "numbers")


def test_parquet_files_that_number_classes_in_different_ways_are_refused(tree, tmp_path):
    """The library would give the names of the first file to the numbers of all files."""
    folder = tmp_path / "parquet"
    named(tree, ["ant", "bee", "cat"], ["ant", "bee", "cat"]).to_parquet(folder / "train.parquet")
    named(tree, ["bee", "cat"], ["ant", "bee", "cat"]).to_parquet(folder / "validation.parquet")
    assert labels(read(folder).val) == [1, 2]
    named(tree, ["bee", "cat"], ["bee", "cat"]).to_parquet(folder / "validation.parquet")
    with pytest.raises(SettingError, match=r"train.parquet and .*validation.parquet .* in different ways") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_a_single_saved_split_says_how_to_take_parts(shuffled):
    with pytest.raises(SettingError) as caught:
        read(shuffled[0])
    assert caught.value.as_settings() == (
        f"data.path={shuffled[0]} has no split validation (data.val_split), but only train. "
        "Parts are written train[:90%] and train[90%:]."
    )


def test_a_damaged_saved_set_is_a_sentence(shuffled, tmp_path):
    copy = shutil.copytree(shuffled[0], tmp_path / "copy")
    next(copy.glob("*.arrow")).unlink()
    with pytest.raises(SettingError, match=rf"^path={copy} cannot be loaded: ") as caught:
        read(copy, train_split="train[:6]", val_split="train[6:]")
    assert "\n" not in str(caught.value)


def test_a_split_without_labels_is_named(tree):
    named = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["bee", "fox"])})
    rows = {"image": images(tree), "label": [0, 1] * 6}
    unlabelled = {"image": images(tree), "label": [-1] * 12}
    path = tree.parent / "unlabelled"
    datasets.DatasetDict(
        train=datasets.Dataset.from_dict(rows, named), validation=datasets.Dataset.from_dict(unlabelled, named)
    ).save_to_disk(path)

    with pytest.raises(SettingError, match=r"The split validation has the label -1 in label_column=label"):
        read(path)


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        ("/nowhere/at/all", {}, "data.path=/nowhere/at/all, data.train_split=train cannot be loaded: Couldn't find"),
        ("{tree}", dict(val_split="test"), "data.val_split=test cannot be loaded: Unknown split"),
        ("{tree}", dict(val_split="train[:0%]"), "corresponds to no data"),
    ],
    ids=["no folder", "no split", "empty"],
)
def test_what_cannot_be_loaded_is_a_sentence(tree, path, changes, message):
    with pytest.raises(SettingError) as caught:
        read(Path(path.format(tree=tree)), **changes)
    assert message in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()


@pytest.mark.slow
def test_without_the_library_a_sentence_says_how_to_get_it():
    """In a process where it cannot be imported; everything else works without it."""
    code = f"""
import sys
sys.modules["datasets"] = None
from soft.data.datasets import BUILDERS
from soft.errors import SettingError
try:
    BUILDERS["hf"]("x", **{OPTIONS!r})
except SettingError as error:
    print(error)
"""
    assert "hf" in BUILDERS
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout == "dataset=hf needs the package datasets: pip install -e '.[hf]'.\n"
