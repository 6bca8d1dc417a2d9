"""What is done to all loggers of a run: names, settings, resuming and closing."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch.loggers import Logger, WandbLogger

from soft.monitoring.csv_logger import CsvLogger
from soft.monitoring.wandb_logger import WandbRunLogger
from soft.runs.identity import is_recording, is_repeated
from soft.runs.position import Position


def prepare_loggers(
    loggers: Iterable[Logger],
    position: Position | None,
    name: str,
    group: str | None = None,
    recipe: Mapping[str, object] | None = None,
) -> list[Logger]:
    """Return a run's loggers, named, and without what was logged after the position from which the run goes on.

    Args:
        loggers: the run's loggers.
        position: the position from which the run goes on; None for a run that begins.
        name: the run's name in W&B, if the logger's settings leave that open.
        group: the sweep to which the run belongs; None for a single run.
        recipe: the run's settings, for its tags; the name of its study becomes a further tag.
    """
    loggers, recipe = list(loggers), recipe or {}
    resume_metrics(loggers, position)
    study = recipe.get("study") or {}
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.name_run(name, group, tags_of(recipe), [study["name"]] if "name" in study else [])
    return loggers


def tags_of(recipe: Mapping[str, object]) -> list[str]:
    """Return the names of model, data set and attention, as far as the recipe has them."""
    model, data = recipe.get("model") or {}, recipe.get("data") or {}
    names = (model.get("name"), data.get("dataset"), (model.get("attention") or {}).get("attention"))
    return [name for name in names if name]


def resume_metrics(loggers: Iterable[Logger], position: Position | None) -> None:
    """Take back what was logged after `position`, from which a run goes on; with None, all that was logged."""
    for logger in loggers:
        if isinstance(logger, CsvLogger):
            logger.go_on_from(position)
        if isinstance(logger, WandbRunLogger):
            logger.resumed = position is not None


def settings_to_filter(recipe: Mapping[str, object]) -> dict[str, object]:
    """Return what loggers keep of a recipe: the settings that say what a run is, without repetitions.

    W&B joins the keys of nested groups by dots, `model.attention.num_landmarks`, as they are typed.
    """
    settings = _without_repetitions(recipe)
    if "name" in recipe:
        settings["name"] = recipe["name"]
    if study := recipe.get("study"):
        settings["study"] = {key: study[key] for key in ("name", "scale") if key in study}
    return settings


def _without_repetitions(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    kept = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if is_recording(key) or is_repeated(key) or name.startswith("_"):
            continue
        kept[name] = _without_repetitions(value, f"{key}.") if isinstance(value, Mapping) else value
    return kept


@contextmanager
def finish_loggers(loggers: Iterable[Logger]) -> Iterator[None]:
    """Close a W&B run at the end of the context, as failed if the context raises; the next run then gets its own."""
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
        import wandb  # only where W&B is used: a machine for benchmarks may not have it

        wandb.finish(exit_code=exit_code)
