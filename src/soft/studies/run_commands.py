"""The commands that make what a run's folder does not hold yet, ready to be pasted."""

import shlex
from pathlib import Path

from soft.runs.folder import as_typed, from_here

EVALUATION_FOLDER, MAPS_FOLDER = "evaluation", "attention_maps"  # folders in that of the run


def evaluate_words(run: Path, checkpoint: Path) -> list[str]:
    """Return the words of the command that evaluates a run's checkpoint into the run's folder."""
    return [
        "src/evaluate.py",
        f"checkpoint={from_here(checkpoint)}",
        f"hydra.run.dir={from_here(run / EVALUATION_FOLDER)}",
    ]


def visualize_words(run: Path, checkpoint: Path) -> list[str]:
    """Return the words of the command that draws what the first validation image attends to."""
    return [
        *("src/visualize.py", "image=0"),
        *(f"checkpoint={from_here(checkpoint)}", f"hydra.run.dir={from_here(run / MAPS_FOLDER)}"),
    ]


def as_command(words: list[str]) -> str:
    """Return the words as one line for a shell."""
    return shlex.join(["python", *words])


def resume_command(run: Path, command: str) -> str:
    """Return the command that goes on with an unfinished run.

    Args:
        command: the one that started it.
    """
    return f"{command} {as_typed('resume', run)}"
