"""What a run's page says of the evaluation of its checkpoint: classes, confusions, calibration and mistakes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from soft.analysis.answers import BINS
from soft.analysis.class_tables import reduced
from soft.analysis.confusion_figure import MAX_SHOWN
from soft.analysis.evaluation_files import MISTAKES, PER_CLASS, PREDICTIONS, read_confusion, read_numbers, read_rows
from soft.data.classes import describe_class
from soft.runs.folder import from_here
from soft.runs.idle_attention import show_stages
from soft.studies.figures import Figure, Series
from soft.studies.page_blocks import Block, Facts, Picture, Section
from soft.studies.run_commands import EVALUATION_FOLDER, as_command, evaluate_words
from soft.studies.run_files import EVALUATION
from soft.studies.single_run import SingleRun
from soft.studies.tables import Column, Table

MAX_CLASSES = 30  # rows of the table of classes
TITLE = "Evaluation"


def find_evaluation(run: SingleRun, elsewhere: Iterable[Path]) -> tuple[Path | None, int]:
    """Return the folder of the newest evaluation of one of the run's checkpoints, and how many there are.

    Evaluations of the model as it was trained come before those with other options of the attention.

    Args:
        elsewhere: folders outside of the run's own where evaluations may lie; their checkpoints are compared.
    """
    inside = [folder for folder in (run.folder, run.folder / EVALUATION_FOLDER) if (folder / EVALUATION).is_file()]
    found = [*inside, *(folder for folder in elsewhere if folder not in inside and is_of_run(run, folder))]
    if not found:
        return None, 0

    def order(folder: Path) -> tuple[bool, float]:
        return not read_numbers(folder).get("settings"), (folder / EVALUATION).stat().st_mtime

    return max(found, key=order), len(found)


def is_of_run(run: SingleRun, folder: Path) -> bool:
    """Return whether `folder` holds an evaluation of one of the run's checkpoints."""
    if not (folder / EVALUATION).is_file():
        return False
    checkpoint = Path(str(read_numbers(folder).get("checkpoint", "")))
    return checkpoint.absolute().parent.resolve() == (run.folder / "checkpoints").resolve()


def evaluation_section(run: SingleRun, folder: Path | None, found: int = 1) -> Section:
    """Return the section on the evaluation in `folder`, or on how to make one.

    Args:
        found: number of evaluations of this run, for a sentence.
    """
    if folder is None:
        return Section(TITLE, [_missing(run)])
    result = read_numbers(folder)
    example = run.example
    written = from_here(folder)
    texts = [f"{result['images']:,} {example}s of {result['data']}, {result['weights']} weights, from `{written}`."]
    if found > 1:
        texts[0] += (
            f" It is the newest of {found} evaluations of this run, but for those with changed settings; "
            "`evaluation=FOLDER` shows another."
        )
    if changed := result.get("settings"):
        values = ", ".join(f"`{key}={value}`" for key, value in changed.items())
        texts.append(f"The model is another one than in training: {values}.")
    checkpoint = run.checkpoint
    if checkpoint and checkpoint.stat().st_mtime > (folder / EVALUATION).stat().st_mtime:
        command = as_command(evaluate_words(run.folder, checkpoint))
        texts.append(
            f"The checkpoint has been written after this evaluation; to evaluate it as it is now: `{command}`."
        )
    texts += [f"Note: {note}" for note in result.get("notes", [])]
    blocks: list[Block] = [Facts(_numbers(result))]
    if "ece" in result:  # else files of an earlier evaluation may lie there
        blocks += _details(folder, example, result)
    else:
        texts.append(f"It has neither classes nor mistakes, because it was made with `details=false`. {_missing(run)}")
    return Section(TITLE, texts, blocks)


def _missing(run: SingleRun) -> str:
    if run.checkpoint is None:
        return "There is no checkpoint to evaluate yet."
    command = as_command(evaluate_words(run.folder, run.checkpoint))
    return f"Classes, confusions, calibration and mistakes are shown here after `{command}`."


def _numbers(result: Mapping[str, object]) -> dict[str, str]:
    texts = {"top-1": f"{result['top1']:.2f} %", "top-5": f"{result['top5']:.2f} %", "loss": f"{result['loss']:.4f}"}
    if "ece" in result:
        texts["calibration"] = f"{result['ece']:.2f} % expected error"
    if attention := show_stages(result):
        texts["attention"] = attention
    if result.get("images_per_second"):
        where = f"{result['devices']} x {result['device']}, {result['precision']}"
        texts["speed"] = f"{result['images_per_second']:,.0f} per second on {where}"
    texts["checkpoint"] = f"`{result['checkpoint']}`"
    return texts


def _details(folder: Path, example: str, result: Mapping[str, object]) -> list[Block]:
    blocks: list[Block] = []
    if matrix := read_confusion(folder):
        shown, note = reduced(matrix, MAX_SHOWN), []
        if len(shown.columns) < len(matrix.columns):
            note = [f"{len(shown.columns)} of {len(matrix.columns):,} classes, those of the most frequent confusions."]
        blocks.append(Section("Confusion matrix", [f"{example}s by class and answer.".capitalize(), *note], [shown]))
    if rows := read_rows(folder, PER_CLASS):
        blocks.append(_class_table(rows, example))
    if rows := read_rows(folder, PREDICTIONS):
        text = (
            f"The expected calibration error is {result['ece']:.2f} %: the mean distance to the dashed line, weighted "
            f"by the number of {example}s."
        )
        blocks.append(Section("Calibration", [text], [calibration_figure(rows)]))
    if (folder / MISTAKES).is_file():
        blocks.append(Section("The most confident mistakes", [], [Picture(folder / MISTAKES, "mistaken images")]))
    elif rows and all(row["label"] == row["class"] for row in rows):
        blocks.append(Section("Mistakes", [f"Every {example} was recognised."]))
    return blocks


def _class_table(rows: Sequence[Mapping[str, object]], example: str) -> Table:
    worst = sorted(rows, key=lambda row: 101.0 if row["top1"] is None else row["top1"])
    notes = [] if len(rows) <= MAX_CLASSES else [f"The weakest {MAX_CLASSES} of {len(rows):,} classes."]
    shown = worst[:MAX_CLASSES]

    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    columns = [
        Column("class", [_class_name(row["class"]) for row in shown]),
        Column("top-1 (%)", [percent(row["top1"]) for row in shown]),
        Column("precision (%)", [percent(row["precision"]) for row in shown]),
        Column(f"{example}s", [str(row["images"]) for row in shown]),
        Column("right", [str(row["correct"]) for row in shown]),
        Column("answers", [str(row["answers"]) for row in shown]),
        Column("taken for", [_class_name(row["confused_with"] or "") for row in shown]),
        Column("times", [str(row["confused"] or "") for row in shown]),
    ]
    return Table("per_class", "Classes, the weakest first", columns, [], notes)


def _class_name(name: str) -> str:
    english = describe_class(name)
    return f"{english.partition(',')[0]} ({name})" if english else name


def calibration_figure(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Return how often answers are right, against their probability, in BINS equal intervals."""
    probabilities = np.array([row["probability"] for row in rows], np.float32)
    right = np.array([row["label"] == row["class"] for row in rows])
    finite = np.isfinite(probabilities)
    probabilities, right = probabilities[finite], right[finite]
    # The intervals of the calibration error: each holds its lower end, and the last one 1 too.
    places = np.digitize(probabilities, np.linspace(0, 1, BINS + 1, dtype=np.float32)[1:-1])
    x, y = [], []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            x.append(100 * float(probabilities[inside].mean()))
            y.append(100 * float(right[inside].mean()))
    measured = Series("measured", x, y, [None] * len(x))
    ideal = Series("calibrated", [0.0, 100.0], [0.0, 100.0], [None, None], dashed=True)
    labels = "probability of the answer (%)", "right answers (%)"
    return Figure("calibration", "", *labels, [measured, ideal], every_x=False)
