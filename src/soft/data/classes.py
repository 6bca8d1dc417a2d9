"""The names of classes: their order, and which classes of a model those of a data set are."""

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from timm.data import ImageNetInfo

from soft.errors import SettingError, first_few

# Share of ImageNet's 1,000 English names that have to agree. Some differ from source to source, because two classes are
# called crane, for example.
ENOUGH_ALIKE = 0.95


def natural_order(names: Iterable[str]) -> list[str]:
    """Return names in alphabetical order, or by their value if all of them are whole numbers."""
    names = list(names)
    if are_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def imagenet_wnids() -> list[str]:
    """Return the WordNet IDs of ImageNet-1K's classes in the order of published models: n01440764 is class 0."""
    return ImageNetInfo("imagenet-1k").label_names()


def describe_class(name: str) -> str | None:
    """Return the English name of a class that is one of ImageNet-1K's WordNet IDs; None for any other name."""
    return _imagenet_descriptions().get(name)


def short_name(name: str) -> str:
    """Return a class's name for a figure: the first of its English names for one of ImageNet's WordNet IDs."""
    english = describe_class(name)
    return english.partition(",")[0] if english else name


@functools.cache
def _imagenet_descriptions() -> dict[str, str]:
    return ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)


def classes_without(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the names of the classes that no label has.

    Args:
        labels: (N,) integers from 0.
        names: of all classes.
    """
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(names))
    return [name for name, count in zip(names, counts, strict=True) if not count]


@dataclass(frozen=True)
class ClassMatch:
    """What the classes of a data set are to a model.

    Attributes:
        indices: the model's class for each class of the data set.
        note: a sentence that a reader of the result has to know; empty where both have the same classes in one order.
        names: of the model's classes, in the order of its outputs; the data set's where the model has none.
    """

    indices: list[int]
    note: str
    names: list[str]


def match_classes(model_names: Sequence[str] | None, num_classes: int, data_names: Sequence[str]) -> ClassMatch:
    """Find the classes of a data set among those of a model, by name.

    Names are compared as they are; ImageNet's English names count as its WordNet IDs. Where only one side has names and
    the other has numbers, a number is the place in the list of names.

    Args:
        model_names: in the order of the model's outputs; None if they are not known.
        num_classes: the model's outputs.
        data_names: in the order of the data set's labels.

    Raises:
        SettingError: the data set has classes that the model does not know, or nothing to compare them by.
    """
    if model_names is None:
        model_names = _assumed_names(num_classes, data_names)
        if model_names is None:
            return _match_unnamed(num_classes, data_names)
    if list(model_names) == list(data_names):
        return ClassMatch(list(range(num_classes)), "", list(model_names))
    for translate in (list, _as_wnids, _as_values):
        ours, theirs = translate(model_names), translate(data_names)
        if set(theirs) <= set(ours) and len(set(theirs)) == len(theirs) and len(set(ours)) == len(ours):
            places = {name: index for index, name in enumerate(ours)}
            return _match([places[name] for name in theirs], model_names)
    if (by_number := _match_numbers(model_names, data_names)) is not None:
        return by_number
    raise SettingError(_difference(model_names, data_names))


def places_by_name(model_names: Sequence[str], data_names: Sequence[str]) -> list[int | None]:
    """Return the model's class of the same name for each class of a data set, None where it has no such class.

    ImageNet's English names count as its WordNet IDs.

    Args:
        model_names: in the order of the model's outputs.
        data_names: in the order of the data set's labels.
    """
    places = {name: place for place, name in enumerate(_as_wnids(model_names))}
    return [places.get(name) for name in _as_wnids(data_names)]


def are_numbers(names: Collection[str]) -> bool:
    """Return whether all names are whole numbers, which mean different classes in different data sets."""
    return all(_is_number(name) for name in names)


def unnamed_order(dataset: str, data_names: Sequence[str]) -> list[str]:
    """Return the classes in the order of a checkpoint of ours that does not name them.

    Such a checkpoint is older than `natural_order`: class folders were in alphabetical order then, even numbered ones.

    Args:
        dataset: what it was trained on, a name in `soft.data.datasets.BUILDERS`.
        data_names: the classes of that data set as they are read now.
    """
    return sorted(data_names) if dataset == "imagenet" else list(data_names)


def check_order(trained: Sequence[str], data_names: Sequence[str]) -> None:
    """Refuse to go on with a training if the data set has the same classes in another order.

    Args:
        trained: the classes of the training so far, in the order of its labels.
        data_names: the classes of the data set as it is read now.

    Raises:
        SettingError: the labels would mean other classes than before.
    """
    if list(trained) != list(data_names) and sorted(trained) == sorted(data_names):
        raise SettingError(
            f"The training so far had its classes in another order ({first_few(trained)}) than they are read in now "
            f"({first_few(data_names)}), so every label would change its meaning. Train anew, or rename the class "
            "folders so that their alphabetical order is the first one, for example with a letter before each number."
        )


def _assumed_names(num_classes: int, data_names: Sequence[str]) -> list[str] | None:
    """Return ImageNet's classes for a model of 1,000 classes if all of the data set's are among them, else None."""
    wnids = imagenet_wnids()
    return wnids if num_classes == len(wnids) and set(_as_wnids(data_names)) <= set(wnids) else None


def _match_unnamed(num_classes: int, data_names: Sequence[str]) -> ClassMatch:
    if num_classes != len(data_names):
        raise SettingError(
            f"The model has {num_classes} classes without names and the data set has {len(data_names)}; choose the "
            "data that it was trained on."
        )
    note = "The model does not name its classes: they are taken to be the data set's, in the same order."
    return ClassMatch(list(range(num_classes)), note, list(data_names))


def _match(indices: list[int], model_names: Sequence[str]) -> ClassMatch:
    if len(indices) < len(model_names):
        note = (
            f"The data set has {len(indices)} of the model's {len(model_names)} classes; an answer with any of the "
            "others counts as wrong."
        )
    elif indices != list(range(len(model_names))):
        note = "The data set has the model's classes in another order; they are matched by name."
    else:
        note = ""  # other words for the same classes
    return ClassMatch(indices, note, list(model_names))


def _match_numbers(model_names: Sequence[str], data_names: Sequence[str]) -> ClassMatch | None:
    """Match the numbers from 0 on with as many names, or return None."""
    numbers = [str(place) for place in range(len(model_names))]
    ours, theirs = _as_values(model_names), _as_values(data_names)
    if sorted(theirs) == sorted(numbers) and not are_numbers(ours):
        note = "The data set numbers its classes; the numbers are taken for places in the model's list of names."
        return ClassMatch([int(number) for number in theirs], note, list(model_names))
    if ours == numbers and len(theirs) == len(numbers) and not are_numbers(theirs):
        note = "The model numbers its classes; the numbers are taken for places in the data set's list of names."
        return ClassMatch(list(range(len(numbers))), note, list(data_names))
    return None


def _difference(model_names: Sequence[str], data_names: Sequence[str]) -> str:
    known = set(model_names)
    unknown = [name for name in data_names if name not in known]
    if not unknown:
        return "Several classes of the model or of the data set share a name, and the two lists of names differ."
    return (
        f"The data set has classes that the model does not know: {first_few(unknown)}. The model was trained on "
        f"{first_few(model_names)}."
    )


def _as_wnids(names: Sequence[str]) -> list[str]:
    """Return WordNet IDs in place of ImageNet's 1,000 English names in their order, and other names as they are."""
    info = ImageNetInfo("imagenet-1k")
    if len(names) != info.num_classes():
        return list(names)
    alike = sum(name == info.index_to_description(index) for index, name in enumerate(names))
    return info.label_names() if alike > ENOUGH_ALIKE * len(names) else list(names)


def _as_values(names: Sequence[str]) -> list[str]:
    """Return numbers without leading zeros, and other names as they are."""
    return [str(int(name)) for name in names] if are_numbers(names) else list(names)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
