"""Evaluations of trained models with other settings than those of their training, as runs of a table."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from soft.studies.finished_run import Run, one_form
from soft.studies.run_files import EVALUATION, read_evaluation

FOLDER = "evaluations"  # in a run's folder, for the evaluations that its study asks for
# It stands before the name of an evaluation's setting, because the training may have had another value.
PREFIX = "evaluation."
# Settings that are no condition of an evaluation: they say which file, on what machine, and what is written.
_UNTOLD = {"checkpoint", "details", "trainer", "logger", "output_dir"}
_OF_TRAINING = ("macs",)  # facts of a training that may not hold for its evaluations


def is_evaluated_with(run: Run, asked: Mapping[str, object]) -> bool:
    """Return whether a run's model has all settings that a study evaluates with.

    A model without attention has no iterations, for example. What is no setting of the model, such as `weights` or
    `data.split`, holds for every run.
    """
    return all(run.settings.get(key) is not None for key in asked if key.startswith("model."))


def lacks_evaluations(run: Run, asked: Mapping[str, list[object]]) -> bool:
    """Return whether a run has not been evaluated yet with each combination of the values that a study asks for."""
    if not asked or not is_evaluated_with(run, asked):
        return False
    found = [tuple(each.settings.get(PREFIX + key) for key in asked) for each in evaluations_of(run)]
    return not all(values in found for values in product(*asked.values()))


def evaluations_of(run: Run) -> list[Run]:
    """Return the evaluations in a run's folder, each with the run's settings and, under PREFIX, its own."""
    files = (run.folder / FOLDER).glob(f"*/{EVALUATION}")
    return [_evaluation(run, path.parent) for path in sorted(files, key=_number)]


def _number(file: Path) -> int:
    name = file.parent.name
    return int(name) if name.isdigit() else -1


def _evaluation(run: Run, folder: Path) -> Run:
    evaluation, typed = read_evaluation(folder)
    settings = dict(_conditions(typed))
    result = {
        "top1": evaluation["top1"],
        "last": {key: value for key, value in evaluation.items() if key.startswith("attention/")},
        "facts": {key: value for key, value in run.result.get("facts", {}).items() if key not in _OF_TRAINING},
        "environment": run.result.get("environment", {}),
        "training_seconds": run.result.get("seconds"),
    }
    return replace(
        run,
        settings={**run.settings, **settings},
        result=result,
        images_per_second=None,  # the speed of an evaluation is no training speed
        typed=run.typed | settings.keys(),
    )


def _conditions(typed: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in typed.items():
        if key not in _UNTOLD and not key.startswith("hydra."):
            yield PREFIX + key, one_form(value)
