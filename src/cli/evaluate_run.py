"""Evaluates a run and draws its attention maps for its page, each by its own command, into the run's folder."""

import subprocess
import sys

from cli.places import REPOSITORY
from soft.errors import RunError, SettingError
from soft.studies.run_commands import as_command, evaluate_words, visualize_words
from soft.studies.single_run import SingleRun


def evaluate_run(run: SingleRun) -> None:
    """Evaluate the run's best checkpoint, and draw the attention maps of its first validation image.

    A run without pictures or without attention gets no maps.

    Raises:
        SettingError: the run has no checkpoint yet.
        RunError: the evaluation failed; its own output says why.
    """
    if run.checkpoint is None:
        raise SettingError(f"evaluate=true needs a checkpoint, and run={run.folder} has none yet; leave it out.")
    words = evaluate_words(run.folder, run.checkpoint)
    if _start(words):
        raise RunError(f"The page was not written, because the evaluation failed: {as_command(words)}")
    if run.has_pictures and run.attention != "none":
        _start(visualize_words(run.folder, run.checkpoint))


def _start(words: list[str]) -> int:
    script, *settings = words
    print(as_command(words), flush=True)
    return subprocess.run([sys.executable, REPOSITORY / script, *settings], check=False).returncode
