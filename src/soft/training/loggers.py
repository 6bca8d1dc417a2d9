"""Loggers with this project's conventions on top of Lightning's."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from soft.errors import SettingError
from soft.settings import check_choice
from soft.training.position import Position
from soft.training.runs import read_mark
from soft.training.writing import explain_full_disk, replace_text

WANDB_MODES = ("auto", "online", "offline", "disabled")


class CsvLogger(CSVLogger):
    """metrics.csv in `save_dir`, each row written at once; unlike Lightning's it goes on in a file that is there."""

    def __init__(self, save_dir: str):
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return self._experiment

    @rank_zero_only
    def go_on_from(self, position: Position | None) -> None:
        """Keep the rows up to `position` alone, none if that is None: the later ones are logged again."""
        path = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
        if not path.is_file():
            return
        if position is None:
            path.unlink()
            return
        text = path.read_text()
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))  # the last line of a killed run may be a part
        kept = [row for row in rows if position.keeps(row)]
        replace_text(path, _table(rows.fieldnames or [], kept))


class _Rows(ExperimentWriter):
    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes metrics.csv."""

    def save(self) -> None:
        with explain_full_disk(Path(self.metrics_file_path)):
            super().save()

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        # Lightning's empties the file first; a run that is killed just then would lose all rows.
        path = Path(self.metrics_file_path)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        replace_text(path, _table(fieldnames, rows))


def _table(fields: Iterable[str], rows: Iterable[Mapping[str, str]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, fields)
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


class WandbRunLogger(WandbLogger):
    """WandbLogger whose run summarises the validation metrics by their best value."""

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        fresh = self._experiment is None
        run = super().experiment
        if fresh:
            for prefix in ("val", "val_raw"):
                run.define_metric(f"{prefix}/top1", summary="max")
                run.define_metric(f"{prefix}/top5", summary="max")
                run.define_metric(f"{prefix}/loss", summary="min")
        return run


def create_wandb_logger(save_dir: str, mode: str = "auto", **options: object) -> WandbRunLogger:
    """A W&B run that never asks for an account.

    Args:
        save_dir: the run's folder; offline data goes to `wandb/` below it.
        mode: `auto` is online when WANDB_API_KEY is set (or as WANDB_MODE says) and offline otherwise.
        options: further arguments of `wandb.init`, such as `project`, `name`, `group`, `tags`. The `id` is that of the
            run in `save_dir`, if there is one: a run that goes on does so in W&B too.
    """
    mode = resolve_wandb_mode(mode)
    if mark := read_mark(Path(save_dir)):
        options.setdefault("id", mark["id"])
    return WandbRunLogger(save_dir=save_dir, offline=mode == "offline", mode=mode, **options)


def resolve_wandb_mode(mode: str) -> str:
    """A mode of `create_wandb_logger` -> online, offline or disabled."""
    check_choice("logger.wandb.mode", mode, WANDB_MODES)
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        raise SettingError(
            "logger.wandb.mode=online needs WANDB_API_KEY in the environment; mode=offline needs nothing."
        )
    return mode


def wandb_server() -> str:
    """The URL that online runs talk to."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def resume_metrics(loggers: Iterable[Logger], position: Position | None) -> None:
    """Take back what was logged after `position`, from which a run goes on."""
    for logger in loggers:
        if isinstance(logger, CsvLogger):
            logger.go_on_from(position)


@contextmanager
def finish_loggers(loggers: Iterable[Logger]) -> Iterator[None]:
    """Closes a W&B run at the end, as failed when the body raised: the next run of a sweep then starts its own."""
    try:
        yield
    except BaseException as error:
        _finish(loggers, exit_code=error.code if isinstance(error, SystemExit) else 1)
        raise
    _finish(loggers, exit_code=0)


def _finish(loggers: Iterable[Logger], exit_code: int) -> None:
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        wandb.finish(exit_code=exit_code)
