"""The files beside evaluation.json, about single images, classes, confusions and mistakes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningDataModule
from matplotlib.figure import Figure

from soft.analysis.answers import Answers
from soft.analysis.class_tables import MAX_CLASSES, ClassResult, class_results, confusion
from soft.analysis.confusion_figure import draw_confusion
from soft.analysis.evaluation_files import CONFUSION, CONFUSION_PICTURE, MISTAKES, PER_CLASS, PREDICTIONS
from soft.data.classes import short_name
from soft.data.image_sets import image_name
from soft.drawing import replace_figure
from soft.studies.picture_grid import draw_picture_grid
from soft.writing import replace_csv

SHOWN_MISTAKES = 24


def write_tables(
    answers: Answers, names: Sequence[str], evaluated: Sequence[int], images: object, folder: Path
) -> tuple[list[ClassResult], list[str]]:
    """Write the tables, and remove that of an earlier evaluation that this one does not have.

    - predictions.csv: for each image its file (or its place in the data set), its class `label`, the answer `class`,
      and the probabilities of both.
    - per_class.csv: for each class its images, those recognised, `top1` in percent, the answers with it, their
      `precision` in percent, the class that it was taken for most often, and how often.
    - confusion.csv: numbers of images, a row for each class and a column for each answer.

    Args:
        answers: to the evaluated images.
        names: of the model's classes.
        evaluated: the model's classes that the data set has, in the data set's order.
        images: the data set, for the images' names.

    Returns:
        The results of the classes, and sentences about files that were left out.
    """
    results, matrix = class_results(answers, names, evaluated), confusion(answers, names, evaluated)
    replace_csv(folder / PREDICTIONS, _prediction_rows(answers, names, images))
    replace_csv(folder / PER_CLASS, _class_rows(results))
    notes = []
    if matrix is None:
        notes.append(f"{CONFUSION} and {CONFUSION_PICTURE} are left out: there are more than {MAX_CLASSES:,} classes.")
        (folder / CONFUSION).unlink(missing_ok=True)
    else:
        cells = ([name, *line] for name, line in zip(matrix.rows, matrix.counts.tolist(), strict=True))
        replace_csv(folder / CONFUSION, [["class", *matrix.columns], *cells])
    return results, notes


def write_pictures(
    answers: Answers, names: Sequence[str], evaluated: Sequence[int], datamodule: LightningDataModule, folder: Path
) -> None:
    """Write the pictures, and remove those of an earlier evaluation that this one does not have.

    - confusion.png: the table of `write_tables`.
    - mistakes.png: the SHOWN_MISTAKES wrong answers of the highest probability, where the data are pictures.

    Args:
        answers, names, evaluated: as for `write_tables`.
        datamodule: holds the images.
    """
    matrix = confusion(answers, names, evaluated)
    pictures = {
        CONFUSION_PICTURE: matrix and draw_confusion(matrix),
        MISTAKES: _draw_mistakes(answers, names, datamodule),
    }
    for name, figure in pictures.items():
        if figure is None:
            (folder / name).unlink(missing_ok=True)
        else:
            replace_figure(folder / name, figure)


def weakest(results: Sequence[ClassResult], shown: int = 3) -> str:
    """Return the classes with the lowest top-1 as text; empty if all images were recognised."""
    wrong = [result for result in results if result.images > result.correct]
    worst = sorted(wrong, key=lambda result: result.top1)[:shown]
    return ", ".join(f"{short_name(result.name)} {result.top1:.1f} %" for result in worst)


def _prediction_rows(answers: Answers, names: Sequence[str], images: object) -> Iterable[list[object]]:
    yield ["file", "label", "class", "probability", "label_probability"]
    for index, label, answer, probability, of_label in zip(
        answers.indices.tolist(),
        answers.labels.tolist(),
        answers.classes.tolist(),
        answers.probabilities.tolist(),
        answers.label_probabilities.tolist(),
        strict=True,
    ):
        yield [image_name(images, index), names[label], names[answer], f"{probability:.6g}", f"{of_label:.6g}"]


def _class_rows(results: Sequence[ClassResult]) -> Iterable[list[object]]:
    yield ["class", "images", "correct", "top1", "answers", "precision", "confused_with", "confused"]
    for each in results:
        top1, precision = ("" if value is None else f"{value:.6g}" for value in (each.top1, each.precision))
        counts = (each.images, each.correct, top1, each.answers, precision)
        yield [each.name, *counts, each.confused_with, each.confused]


def _draw_mistakes(answers: Answers, names: Sequence[str], datamodule: LightningDataModule) -> Figure | None:
    wrong = np.flatnonzero(~answers.correct)
    if not len(wrong):
        return None
    shown = wrong[np.argsort(-answers.probabilities[wrong], kind="stable")][:SHOWN_MISTAKES]
    pictures, captions = [], []
    for place in shown.tolist():
        index = int(answers.indices[place])
        picture = datamodule.picture(index)
        if picture is None:
            return None
        pictures.append(picture)
        answer, label = (short_name(names[classes[place]]) for classes in (answers.classes, answers.labels))
        file = Path(image_name(datamodule.sets.val, index)).name
        captions.append((f"{answer}: {100 * answers.probabilities[place]:.0f} %", f"is {label}", file))
    return draw_picture_grid(pictures, captions, f"the most confident of {len(wrong):,} mistakes")
