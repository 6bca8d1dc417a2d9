"""Tables and pictures of an evaluation, from given answers."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from soft.analysis.answers import Answers
from soft.analysis.class_tables import MAX_CLASSES, class_results, confusion, reduced
from soft.analysis.details import weakest, write_pictures, write_tables
from soft.data.classes import imagenet_wnids
from soft.data.image_sets import NoiseImages
from soft.drawing import drawable

NAMES = ["cat", "dog", "owl", "$fox$"]


def answers(pairs, probabilities=None) -> Answers:
    """Answers of (class, answer) pairs."""
    labels, classes = np.array(pairs, np.int64).reshape(-1, 2).T
    values = np.full(len(labels), 0.5, np.float32) if probabilities is None else np.array(probabilities, np.float32)
    return Answers(np.arange(len(labels)), labels, classes, values, values / 2)


def data(size: int) -> SimpleNamespace:
    """Return what a data module says of its images, here noise of 12 x 16 pixels."""
    images = NoiseImages(size, (12, 16), 4, stream=0)
    return SimpleNamespace(sets=SimpleNamespace(val=images), picture=lambda index: np.asarray(images[index][0]))


def write_details(given: Answers, names: list[str], evaluated, datamodule, folder):
    """Write all files of an evaluation, as src/evaluate.py does."""
    found = write_tables(given, names, evaluated, datamodule.sets.val, folder)
    write_pictures(given, names, evaluated, datamodule, folder)
    return found


def read(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


# Three cats, one taken for a dog and one for a fox; two dogs, both right. Owls have no images, foxes are not evaluated.
PAIRS = [(0, 0), (0, 1), (1, 1), (0, 3), (1, 1)]


def test_each_class():
    cat, dog, owl = class_results(answers([*PAIRS, (0, 3)]), NAMES, [0, 1, 2])
    assert (cat.images, cat.correct, cat.top1, cat.precision) == (4, 1, 25, 100)
    assert (cat.confused_with, cat.confused) == ("$fox$", 2)
    assert (dog.images, dog.top1, dog.answers, dog.precision) == (2, 100, 3, pytest.approx(200 / 3))
    assert (dog.confused_with, owl.images, owl.top1, owl.precision) == ("", 0, None, None)
    assert weakest([cat, dog, owl]) == "cat 25.0 %"
    assert weakest([dog, owl]) == ""


def test_confusions_in_the_order_of_the_data():
    matrix = confusion(answers(PAIRS), NAMES, [1, 0])
    assert (matrix.rows, matrix.columns) == (["dog", "cat"], ["dog", "cat", "$fox$"])
    assert matrix.counts.tolist() == [[2, 0, 0], [1, 1, 1]]
    one = confusion(answers([(0, 0)]), ["cat"], [0])
    assert one.counts.tolist() == [[1]]


def test_a_large_matrix_is_reduced_to_its_confusions():
    pairs = [(i, i) for i in range(100)] + [(40, 71)] * 3 + [(71, 40)] * 2 + [(12, 13)] + [(5, 100)] * 4
    matrix = confusion(answers(pairs), [f"c{i}" for i in range(101)], range(100))
    assert len(matrix.columns) == 101
    small = reduced(matrix, 6)
    assert small.columns == ["c5", "c12", "c13", "c40", "c71", "c100"]
    assert small.rows == small.columns[:5]
    assert small.counts[3].tolist() == [0, 0, 0, 1, 3, 0]
    assert small.images.tolist() == [5, 2, 1, 4, 3]
    assert reduced(matrix, 8).columns[:2] == ["c0", "c1"], "room that is left is filled"
    few = confusion(answers([(0, 3), (0, 3), (0, 2), (1, 1)]), NAMES, [0, 1])
    assert reduced(few, 3).columns == ["cat", "dog", "$fox$"]


def test_files(tmp_path):
    probabilities = [0.9, 0.6, 0.7, 0.8, 0.75]
    results, notes = write_details(answers(PAIRS, probabilities), NAMES, [0, 1, 2], data(5), tmp_path)
    assert [result.name for result in results] == ["cat", "dog", "owl"]
    assert not notes
    header, *rows = read(tmp_path / "predictions.csv")
    assert header == ["file", "label", "class", "probability", "label_probability"]
    assert rows[3] == ["3", "cat", "$fox$", "0.8", "0.4"]
    assert len(rows) == 5
    header, cat, _, owl = read(tmp_path / "per_class.csv")
    assert dict(zip(header, cat, strict=True)) == {
        "class": "cat",
        "images": "3",
        "correct": "1",
        "top1": "33.3333",
        "answers": "1",
        "precision": "100",
        "confused_with": "$fox$",
        "confused": "1",
    }
    assert owl == ["owl", "0", "0", "", "0", "", "", "0"]
    assert read(tmp_path / "confusion.csv") == [
        ["class", "cat", "dog", "owl", "$fox$"],
        ["cat", "1", "1", "0", "1"],
        ["dog", "0", "2", "0", "0"],
        ["owl", "0", "0", "0", "0"],
    ]
    assert Image.open(tmp_path / "confusion.png").width > 500
    mistakes = Image.open(tmp_path / "mistakes.png")
    assert mistakes.width > mistakes.height  # two pictures in a row

    # Another evaluation in the same folder, without mistakes
    write_details(answers([(0, 0), (1, 1)]), NAMES, [0, 1], data(2), tmp_path)
    assert not (tmp_path / "mistakes.png").exists()


def test_names_that_are_no_text_are_drawn(tmp_path):
    """A file may be called caf<E9>.jpg, and a folder may hold a line break in its name."""
    images = NoiseImages(2, (12, 16), 4, stream=0)
    images.samples = [("caf\udce9.jpg", 0), ("a\nb.jpg", 1)]
    given = SimpleNamespace(sets=SimpleNamespace(val=images), picture=lambda index: np.asarray(images[index][0]))
    write_details(answers([(0, 1), (1, 0)]), ["caf\udce9", "a\nb"], [0, 1], given, tmp_path)
    assert [row[:2] for row in read(tmp_path / "predictions.csv")[1:]] == [
        ["caf\\udce9.jpg", "caf\\udce9"],
        ["a\nb.jpg", "a\nb"],
    ]
    assert Image.open(tmp_path / "mistakes.png").width > 300
    assert Image.open(tmp_path / "confusion.png").width > 300
    assert drawable("día 日本\u3000\udce9\n") == "día 日本\u3000\\udce9\\n"


def test_a_thousand_classes(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(1000, size=3000)
    wrong = np.where(generator.random(3000) < 0.3, (labels + 1) % 1000, labels)
    given = answers(np.stack([labels, wrong], axis=1), generator.random(3000))
    write_details(given, imagenet_wnids(), range(1000), data(3000), tmp_path)
    assert len(read(tmp_path / "per_class.csv")) == 1001
    assert {len(row) for row in read(tmp_path / "confusion.csv")} == {1001}
    assert max(Image.open(tmp_path / "confusion.png").size) < 2500


def test_more_classes_than_a_matrix_has(tmp_path):
    (tmp_path / "confusion.csv").write_text("an earlier evaluation's")
    classes = MAX_CLASSES + 1
    results, notes = write_details(
        answers([(0, 1), (2, 2)]), [str(i) for i in range(classes)], range(classes), data(2), tmp_path
    )
    assert "2,000 classes" in notes[0]
    assert len(results) == classes
    assert {path.name for path in tmp_path.iterdir()} == {"mistakes.png", "per_class.csv", "predictions.csv"}
