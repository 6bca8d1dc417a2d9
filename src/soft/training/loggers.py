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
from soft.training.curves import read_metrics
from soft.training.position import Position
from soft.training.runs import METRICS, read_mark
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
    """WandbLogger whose run summarises the validation metrics by their best value.

    Attributes:
        resumed: whether the run goes on from a checkpoint.
    """

    resumed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        fresh = self._experiment is None
        run = super().experiment
        if fresh:
            for name, best in BEST.items():
                run.define_metric(name, summary=best)
        return run

    @property
    def disabled(self) -> bool:
        """Whether nothing that is logged is kept."""
        return self._wandb_init.get("mode") == "disabled"

    def name_run(self, name: str, group: str | None, tags: Iterable[str]) -> None:
        """Call the run so where its settings leave that open; it has not started yet."""
        init = self._wandb_init
        self._name = init["name"] = init["name"] or name
        init["group"] = init.get("group") or group
        init["tags"] = list(dict.fromkeys([*(init.get("tags") or []), *tags]))

    @rank_zero_only
    def summarise(self, loggers: Iterable[Logger]) -> None:
        """Set a resumed run's summary to the best since its start: W&B knows what this process has logged alone."""
        tables = [Path(logger.log_dir) / METRICS for logger in loggers if isinstance(logger, CsvLogger)]
        if not self.resumed or wandb.run is None:
            return
        for table in filter(Path.is_file, tables):
            for name, pairs in read_metrics(table).items():
                if name in BEST:
                    best = {"max": max, "min": min}[BEST[name]](value for _, value in pairs)
                    self.experiment.summary.update({name: {BEST[name]: best}})


BEST = {
    f"{prefix}/{name}": best
    for prefix in ("val", "val_raw")
    for name, best in (("top1", "max"), ("top5", "max"), ("loss", "min"))
}


def create_wandb_logger(
    save_dir: str, mode: str = "auto", log_model: bool | str | None = None, **options: object
) -> WandbRunLogger:
    """A W&B run that never asks for an account.

    Args:
        save_dir: the run's folder; offline data goes to `wandb/` below it.
        mode: `auto` is online when WANDB_API_KEY is set (or as WANDB_MODE says) and offline otherwise.
        log_model: checkpoints as artifacts: True for the best one at the end, `all` for each one as it is written.
        options: further arguments of `wandb.init`, such as `project`, `name`, `group`, `tags`. The `id` is that of the
            run in `save_dir`, if there is one: a run that goes on does so in W&B too.

    Raises:
        SettingError: a mode or log_model that is none, or checkpoints for an offline run.
    """
    mode = resolve_wandb_mode(mode)
    if log_model not in (None, True, False):
        check_choice("logger.wandb.log_model", log_model, ("true", "false", "all"))
    if log_model and mode == "offline":
        raise SettingError(
            f"logger.wandb.log_model={str(log_model).lower()} uploads checkpoints, and this run is offline; set "
            "WANDB_API_KEY and logger.wandb.mode=online, or leave out logger.wandb.log_model."
        )
    if mark := read_mark(Path(save_dir)):
        options.setdefault("id", mark["id"])
    if mode == "disabled":
        log_model = False
    return WandbRunLogger(
        save_dir=save_dir, offline=mode == "offline", mode=mode, log_model=log_model or False, **options
    )


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
        if isinstance(logger, WandbRunLogger):
            logger.resumed = position is not None


def name_runs(loggers: Iterable[Logger], name: str, group: str | None, study: str | None) -> None:
    """Names for runs in W&B that their settings leave open; to be called before anything is logged.

    Args:
        group: the sweep that the run is of.
        study: the study, another tag.
    """
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.name_run(name, group, [study] if study else [])


def settings_to_filter(recipe: Mapping[str, object]) -> dict[str, object]:
    """What a run is, for loggers: a recipe without what repeats or says where and how it is written.

    W&B joins the keys of nested groups by dots, `model.attention.num_landmarks`, as they are typed.
    """
    settings = {key: _without_noise(value) for key, value in recipe.items() if key not in _WRITING}
    if isinstance(data := settings.get("data"), dict):
        settings["data"] = {key: value for key, value in data.items() if key not in ("augment", "seed")}
    if study := recipe.get("study"):
        settings["study"] = {key: study[key] for key in ("name", "scale") if key in study}
    return settings


_WRITING = ("output_dir", "resume", "preflight", "logger", "callbacks", "study", "suggested")


def _without_noise(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without_noise(child)
        for key, child in value.items()
        if key != "recipe" and not (key.startswith("_") and key.endswith("_"))
    }


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
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.summarise(loggers)
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        wandb.finish(exit_code=exit_code)
