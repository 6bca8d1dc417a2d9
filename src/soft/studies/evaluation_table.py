"""The table that a sweep of evaluations ends with."""

from collections.abc import Sequence
from pathlib import Path

from soft.studies.run_files import EVALUATION, read_evaluation
from soft.studies.table_formats import markdown, write_csv
from soft.studies.tables import Column

FILE = "evaluations.csv"
# What is shown of an evaluation.json: its entry, the header and the form of the number.
_RESULTS = {
    "top1": ("top-1 (%)", ".2f"),
    "top5": ("top-5 (%)", ".2f"),
    "loss": ("loss", ".4f"),
    "ece": ("calibration error (%)", ".2f"),
    "images_per_second": ("images/s", ",.0f"),
}


def write_evaluation_table(folders: Sequence[Path], out: Path) -> str:
    """Write evaluations.csv into `out`, and return the same as a table in Markdown, a line for each evaluation.

    Args:
        folders: of evaluations that have come to their end, at least one. Settings whose typed values differ between
            them are columns.
        out: folder of the file.
    """
    found = [read_evaluation(folder) for folder in folders]
    keys = dict.fromkeys(key for _, typed in found for key in typed if not key.startswith("hydra."))
    varied = [key for key in keys if len({str(typed.get(key)) for _, typed in found}) > 1]
    columns = [Column(key, [str(typed.get(key, "")) for _, typed in found]) for key in varied]
    for name, (header, form) in _RESULTS.items():
        values = [evaluation.get(name) for evaluation, _ in found]
        if any(value is not None for value in values):
            columns.append(Column(header, ["" if value is None else format(value, form) for value in values]))
    records = [
        {**{key: typed.get(key) for key in varied}, **{name: evaluation.get(name) for name in _RESULTS}}
        | {"file": str(folder / EVALUATION)}
        for folder, (evaluation, typed) in zip(folders, found, strict=True)
    ]
    write_csv(records, out / FILE)
    return markdown(columns)
