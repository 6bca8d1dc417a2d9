"""Keeps the terminal free for what the user has to know."""

import logging
import warnings
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

# Warnings about intended behaviour, and why it is intended.
_EXPECTED = (
    # Hydra makes the run's folder and its log before CSVLogger looks into the folder.
    r"Experiment logs directory .* exists and is not empty",
    # A resumed run writes into the folder that it already has.
    r"Checkpoint directory .* exists and is not empty",
    # A run that goes on in another folder keeps its best checkpoint there.
    r"The dirpath has changed from",
    # The averaged weights are a module that is always in eval mode.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Small data sets are loaded in the training process; elsewhere the number of workers suits the machine.
    r"The '\w+_dataloader' does not have many workers",
    # Short epochs are normal on small data sets.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Metrics are combined over the ranks before they are logged.
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",
    # The samplers start from the restored counters, so no batch is repeated or left out.
    r"You're resuming from a checkpoint that ended before the epoch ended",
    # Lightning itself uses this deprecated function of PyTorch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def quiet_libraries() -> None:
    """Send Lightning's messages to the log alone, and drop warnings about intended behaviour."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True  # this is False if Lightning was loaded before Hydra set up logging
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def print_rows(rows: Mapping[str, str]) -> None:
    """Print one named fact per line; long lines are not wrapped, because a wrapped path cannot be copied."""
    width = max(map(len, rows))
    for name, value in rows.items():
        Console().print(Text.assemble((f"{name:<{width}}", "bold"), "  ", value), soft_wrap=True)


def print_notes(notes: Iterable[str]) -> None:
    """Print sentences that a reader of the result has to know, one per line."""
    for note in notes:
        Console().print(Text(f"Note: {note}"), soft_wrap=True)
