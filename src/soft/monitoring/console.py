"""Keeps a terminal for what the user has to know."""

import logging
import warnings
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

_EXPECTED = (
    # Hydra makes the run's folder and the log in it before CSVLogger looks there.
    r"Experiment logs directory .* exists and is not empty",
    # A run that goes on does so in its folder, and one that goes on elsewhere finds its own best there.
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed from",
    # The averaged weights are a module in eval mode, on purpose.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Small data sets load in the training process; the default number of workers suits the machine.
    r"The '\w+_dataloader' does not have many workers",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Metrics are gathered over the ranks before they are logged.
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",
    # The samplers start from the restored counters.
    r"You're resuming from a checkpoint that ended before the epoch ended",
    # Lightning's own use of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def quiet_libraries() -> None:
    """Lightning's notes go to the log alone, and warnings about what is meant to be so are dropped."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True  # not so where it was loaded before Hydra's log
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def print_rows(rows: Mapping[str, str]) -> None:
    """Print one named fact a line. A line can have any length: a path that is broken over lines cannot be copied."""
    width = max(map(len, rows))
    for name, value in rows.items():
        Console().print(Text.assemble((f"{name:<{width}}", "bold"), "  ", value), soft_wrap=True)
