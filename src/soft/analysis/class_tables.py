"""How well each class is recognised, and which classes are taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from soft.analysis.answers import Answers

MAX_CLASSES = 2000  # of a confusion matrix, which then has four million cells


@dataclass(frozen=True)
class ClassResult:
    """What became of the images of one class.

    Attributes:
        name: of the class.
        images, correct: numbers of its images, and of those that were recognised.
        answers: number of images, of any class, that were taken for it.
        confused_with: the class that its images were taken for most often by mistake; empty if there was no mistake.
        confused: number of these mistakes.
    """

    name: str
    images: int
    correct: int
    answers: int
    confused_with: str
    confused: int

    @property
    def top1(self) -> float | None:
        """Return the percentage of its images that were recognised; None without images."""
        return 100 * self.correct / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Return the percentage of the answers with this class that were right; None without such answers."""
        return 100 * self.correct / self.answers if self.answers else None


@dataclass(frozen=True)
class Confusion:
    """Numbers of images by class and by answer.

    Attributes:
        rows: names of the images' classes.
        columns: names of the answers: first those of `rows` in the same order, then other classes that were answered.
        counts: (len(rows), len(columns)).
        images: (len(rows),), the images of each class, including those whose answer is not among `columns`.
    """

    rows: list[str]
    columns: list[str]
    counts: np.ndarray
    images: np.ndarray


def class_results(answers: Answers, names: Sequence[str], evaluated: Sequence[int]) -> list[ClassResult]:
    """Return a result for each of the classes `evaluated`.

    Args:
        names: of the model's classes.
        evaluated: the model's classes that the data set has, in the data set's order.
    """
    images, correct, given = (
        np.bincount(classes, minlength=len(names))
        for classes in (answers.labels, answers.labels[answers.correct], answers.classes)
    )
    wrong = ~answers.correct
    mistakes, counts = np.unique(np.stack([answers.labels[wrong], answers.classes[wrong]]), axis=1, return_counts=True)
    worst: dict[int, tuple[int, int]] = {}  # of each class, (number of mistakes, answer)
    for label, answer, count in zip(*mistakes.tolist(), counts.tolist(), strict=True):
        worst[label] = max(worst.get(label, (0, 0)), (count, answer))
    results = []
    for place in evaluated:
        confused, answer = worst.get(place, (0, 0))
        confused_with = names[answer] if confused else ""
        counts = (int(images[place]), int(correct[place]), int(given[place]))
        results.append(ClassResult(names[place], *counts, confused_with, confused))
    return results


def confusion(answers: Answers, names: Sequence[str], evaluated: Sequence[int]) -> Confusion | None:
    """Return the confusion matrix; None if it would have more than MAX_CLASSES columns.

    Args:
        names, evaluated: as for `class_results`.
    """
    others = np.setdiff1d(answers.classes, evaluated)
    columns = np.concatenate([np.asarray(evaluated, np.int64), others])
    if len(columns) > MAX_CLASSES:
        return None
    places = np.zeros(len(names), np.int64)
    places[columns] = np.arange(len(columns))
    given, labels = (torch.from_numpy(places[classes]) for classes in (answers.classes, answers.labels))
    counts = multiclass_confusion_matrix(given, labels, num_classes=max(2, len(columns))).numpy()
    counts = counts[: len(evaluated), : len(columns)]
    return Confusion([names[i] for i in evaluated], [names[i] for i in columns], counts, counts.sum(1))


def reduced(matrix: Confusion, size: int) -> Confusion:
    """Return the matrix with at most `size` columns, in their order.

    The evaluated classes stay, if there is room for all of them. The room that is left goes to the classes and answers
    of the most frequent confusions.
    """
    rows, columns = len(matrix.rows), len(matrix.columns)
    kept = dict.fromkeys(range(rows) if rows <= size else ())
    wrong = matrix.counts.copy()
    wrong[np.arange(rows), np.arange(rows)] = 0
    order = np.argsort(-wrong, axis=None, kind="stable")[: wrong.astype(bool).sum()]
    pairs = np.stack(np.unravel_index(order, wrong.shape), axis=1)
    for place in (*pairs.ravel().tolist(), *range(columns)):
        if len(kept) < size:
            kept[place] = None
    chosen = sorted(kept)
    lines = [place for place in chosen if place < rows]
    names = [matrix.rows[i] for i in lines], [matrix.columns[i] for i in chosen]
    return Confusion(*names, matrix.counts[np.ix_(lines, chosen)], matrix.images[lines])
