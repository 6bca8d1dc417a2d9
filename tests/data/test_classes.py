"""Classes keep their names wherever they go: their order, and which of a model's classes those of a data set are."""

import numpy as np
import pytest
from timm.data import ImageNetInfo

from soft.data.classes import check_order, classes_without, imagenet_wnids, match_classes, natural_order, unnamed_order
from soft.errors import SettingError

WNIDS = imagenet_wnids()
INFO = ImageNetInfo("imagenet-1k")
ENGLISH = [INFO.index_to_description(index) for index in range(1000)]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "2", "0", "1"], ["0", "1", "2", "10"]),
        (["02", "10", "1"], ["1", "02", "10"]),
        (["a10", "a2"], ["a10", "a2"]),
        (["10", "2", "x"], ["10", "2", "x"]),
        (["²", "10", "2"], ["10", "2", "²"]),
    ],
)
def test_numbers_are_in_the_order_of_their_values(names, ordered):
    assert natural_order(names) == ordered


def test_imagenet_s_classes_are_in_the_published_order():
    assert (len(WNIDS), WNIDS[0], WNIDS[207], WNIDS[999]) == (1000, "n01440764", "n02099601", "n15075141")


def test_classes_without_images():
    assert classes_without(np.array([0, 2, 2]), list("abcd")) == ["b", "d"]
    assert classes_without(np.array([], np.int64), list("ab")) == ["a", "b"]


def places(*names: str) -> list[int]:
    return [WNIDS.index(name) for name in names]


MATCHES = {
    "same": (list("abc"), list("abc"), [0, 1, 2], ""),
    "another order": (list("abc"), list("cab"), [2, 0, 1], "in another order; they are matched by name"),
    "some": (
        list("abcd"),
        list("db"),
        [3, 1],
        "2 of the model's 4 classes; an answer with any of the others counts as",
    ),
    "padded numbers": (["00", "01", "02"], ["0", "2"], [0, 2], "2 of the model's 3 classes"),
    "numbers in the data": (list("abc"), ["0", "1", "2"], [0, 1, 2], "The data set numbers its classes"),
    "numbers in the model": (["0", "1", "2"], list("xyz"), [0, 1, 2], "The model numbers its classes"),
    "no names": (None, list("abc"), [0, 1, 2], "The model does not name its classes"),
    "published weights": (None, ["n15075141", "n01440764"], places("n15075141", "n01440764"), "2 of the model's 1000"),
    "published weights, all": (None, WNIDS, list(range(1000)), ""),
    "published weights, numbers": (None, [str(label) for label in range(1000)], list(range(1000)), "does not name"),
    "English names": (WNIDS, ENGLISH, list(range(1000)), ""),
    "some English differs": (WNIDS, ["x", *ENGLISH[1:]], list(range(1000)), ""),
}


@pytest.mark.parametrize(("model", "data", "indices", "note"), MATCHES.values(), ids=MATCHES)
def test_classes_that_match(model, data, indices, note):
    outputs = len(model) if model else 1000 if len(data) != 3 else 3
    match = match_classes(model, outputs, data)

    assert match.indices == indices
    assert note in match.note
    assert bool(note) == bool(match.note)


DIFFERENCES = {
    "other names": (
        list("abc"),
        list("xyz"),
        "classes that the model does not know: x, y, z. The model was trained on a",
    ),
    "one more": (list("abc"), list("abcd"), "classes that the model does not know: d. The model"),
    "other numbers": ([str(label) for label in range(10)], [str(label) for label in range(12)], "not know: 10, 11."),
    "numbers from 1": (list("abc"), ["1", "2", "3"], "does not know: 1, 2, 3."),
    "fewer numbers": (list("abcd"), ["0", "1", "2"], "does not know: 0, 1, 2."),
    "a name twice": (["a", "a", "b"], ["b", "a"], "share a name"),
    "unnamed and of another number": (None, list("ab"), "has 10 classes without names and the data set has 2"),
}


@pytest.mark.parametrize(("model", "data", "message"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_classes_that_differ_are_named(model, data, message):
    with pytest.raises(SettingError) as caught:
        match_classes(model, len(model) if model else 10, data)
    assert message in str(caught.value)


def test_older_checkpoints_had_numbered_folders_in_alphabetical_order():
    names = [str(label) for label in range(12)]
    older = unnamed_order("imagenet", names)

    assert older[:4] == ["0", "1", "10", "11"]
    assert match_classes(older, 12, names).indices[:4] == [0, 1, 4, 5]
    assert unnamed_order("fake", names) == names


def test_classes_in_another_order_are_not_trained_on():
    names = [str(number) for number in range(12)]
    check_order(names, names)
    check_order(["a", "b"], ["c", "d"])  # other data: that is for others to say
    with pytest.raises(SettingError, match=r"another order \(0, 1, 10 and 9 more\).*\(0, 1, 2 and 9 more\)"):
        check_order(unnamed_order("imagenet", names), names)
