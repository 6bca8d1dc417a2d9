"""What predictions leave behind: predictions.csv, predictions.json and contact_sheet.png, and a table on the screen."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from soft.data.classes import describe_class, short_name
from soft.drawing import replace_figure
from soft.prediction.predictor import Prediction, Predictions
from soft.studies.picture_grid import draw_picture_grid
from soft.writing import replace_csv, replace_text

CSV, JSON, SHEET = "predictions.csv", "predictions.json", "contact_sheet.png"
COLUMNS = ("file", "rank", "class", "probability")
SHOWN = 20  # images in the table on the screen


def write_predictions(predictions: Predictions, conditions: Mapping[str, object], folder: Path) -> dict[str, Path]:
    """Write predictions.csv and predictions.json, and contact_sheet.png if there are pictures; return their paths.

    Args:
        conditions: facts that begin predictions.json, such as the checkpoint.
    """
    rows = (
        (image.file, rank, name, f"{probability:.6g}")
        for image in predictions.images
        for rank, (name, probability) in enumerate(_ranked(image), start=1)
    )
    written = {"predictions": folder / CSV, "as JSON": folder / JSON}
    replace_csv(folder / CSV, (COLUMNS, *rows))
    replace_text(folder / JSON, json.dumps(_as_json(predictions, conditions), indent=2, ensure_ascii=False) + "\n")
    if predictions.pictures:
        written["contact sheet"] = folder / SHEET
        _draw_contact_sheet(predictions, folder / SHEET)
    else:
        (folder / SHEET).unlink(missing_ok=True)  # another command's, in the same folder
    return written


def print_predictions(predictions: Predictions) -> None:
    """Print a table with the classes of the first images, and the files that could not be read."""
    table = Table("file", "class", "", pad_edge=False, box=None, show_edge=False)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    table.columns[2].justify = "right"
    for image in predictions.images[:SHOWN]:
        for rank, (name, probability) in enumerate(_ranked(image), start=1):
            file = Text(str(image.file) if rank == 1 else "")
            table.add_row(file, Text(shown_class(name)), Text(f"{100 * probability:.1f} %"))
    console = Console()
    if not console.is_terminal:  # a wrapped path cannot be copied
        unlimited = console.options.update(width=10_000)
        console = Console(width=max(console.width, console.measure(table, options=unlimited).maximum))
    console.print(table)
    if (rest := len(predictions.images) - SHOWN) > 0:
        console.print(f"and {rest:,} more images in {CSV}", highlight=False)
    for file, reason in predictions.unreadable.items():
        console.print(Text(f"{file} cannot be read as an image: {reason}"), soft_wrap=True)


def shown_class(name: str) -> str:
    """Return a class's name for a reader: one of ImageNet's WordNet IDs with its English name."""
    description = describe_class(name)
    return f"{name} {description}" if description else name


def _ranked(image: Prediction) -> zip:
    return zip(image.classes, image.probabilities, strict=True)


def _as_json(predictions: Predictions, conditions: Mapping[str, object]) -> dict[str, object]:
    def entry(rank: int, name: str, probability: float) -> dict[str, object]:
        english = describe_class(name)
        return {"rank": rank, "class": name, **({"name": english} if english else {}), "probability": probability}

    return {
        **conditions,
        "preprocessing": predictions.preprocessing,
        "notes": predictions.notes,
        "images": [
            {
                "file": str(image.file),
                "predictions": [entry(rank, *each) for rank, each in enumerate(_ranked(image), start=1)],
            }
            for image in predictions.images
        ],
        "unreadable": [{"file": file, "reason": reason} for file, reason in predictions.unreadable.items()],
    }


def _draw_contact_sheet(predictions: Predictions, path: Path) -> None:
    shown = predictions.images[: len(predictions.pictures)]
    captions = [
        (
            image.file.name,
            *(f"{short_name(name)}: {100 * value:.0f} %" for name, value in list(_ranked(image))[:3]),
        )
        for image in shown
    ]
    replace_figure(path, draw_picture_grid(predictions.pictures, captions))
