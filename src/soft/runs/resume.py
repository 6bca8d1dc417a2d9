"""Decides what a command does in its folder: begin a run, go on with one, or nothing, because it is finished."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from soft.errors import SettingError, first_few
from soft.runs.folder import (
    METRICS,
    RESULT,
    as_absolute,
    as_typed,
    claim,
    from_here,
    is_older,
    launch_name,
    mark_run,
    read_mark,
    run_folder,
)
from soft.runs.identity import LAYOUT, MACHINE, differences
from soft.runs.last_checkpoint import LAST, has_checkpoint, make_last, newest_checkpoint, position_of
from soft.runs.position import Position
from soft.runs.signals import SIGNALS, Stopped
from soft.writing import replace_text


@dataclass(frozen=True)
class Start:
    """The way a run begins or goes on.

    Attributes:
        note: what was found, for the user.
        checkpoint: the file to go on from; None to begin.
        position: where that checkpoint stands.
        finished: whether the run is over, so that nothing is left to do.
    """

    note: str = ""
    checkpoint: Path | None = None
    position: Position | None = None
    finished: bool = False


@contextmanager
def start_in(
    folder: Path, resume: str | None, recipe: Mapping[str, object], words: Sequence[str] | None = None
) -> Iterator[Start]:
    """Claim `folder` for this process while the context lasts, and yield what is to be done there (`open_run`).

    SIGTERM, SIGINT and SIGUSR1 end the run cleanly meanwhile. The other ranks of a run follow the first one.

    Args:
        folder: the run's folder.
        resume: as in `open_run`.
        recipe: the run's resolved configuration, in plain containers.
        words: the settings that were typed for it, see `mark_run`.

    Raises:
        SettingError: as in `open_run`, or another process has the folder.
    """
    if rank_zero_only.rank:
        with SIGNALS.listen():
            yield _follow_first_rank(resume, folder)
        return
    with SIGNALS.listen(), claim(folder):
        start = open_run(resume, folder, recipe)
        if not start.finished:
            mark_run(folder, recipe, words)
        if start.finished:
            print(start.note)
        try:
            yield start
        except Stopped as stopped:
            where = "" if has_checkpoint(folder) else ", from the start: there is no checkpoint yet"
            print(f"Stopped by {stopped.name}. {as_typed('resume', folder)} goes on{where}.")
            raise


def open_run(resume: str | None, folder: Path, recipe: Mapping[str, object]) -> Start:
    """Return what a run is to do in `folder`, which this process has claimed (`soft.runs.folder.claim`).

    Without `resume`, the run goes on if SLURM or torchrun began it there and have now started it again.

    Args:
        resume: None, `auto`, or the path of a run's folder or of a checkpoint.
        recipe: the run's resolved configuration, in plain containers.

    Raises:
        SettingError: the folder holds another run, or there is nothing whole to go on from.
    """
    source = None
    if resume not in (None, "auto"):
        source = as_absolute(resume)
        if not source.exists():
            raise SettingError(
                f"resume={resume} is not a file or folder; name a run's folder or a checkpoint, such as outputs/RUN, "
                "or auto for the newest unfinished run of this configuration."
            )
    mark = read_mark(folder)
    own = source is None or run_folder(source) == folder
    if mark is None or not (has_checkpoint(folder) or any((folder / name).exists() for name in (METRICS, RESULT))):
        if not own:
            return _go_on_elsewhere(source, folder, recipe)
        return Start("There is nothing of this configuration to go on with: a new run begins." if resume else "")
    again = resume is None and mark["launch"] is not None and mark["launch"] == launch_name()
    if not own or not (resume or again):
        raise SettingError(
            f"{from_here(folder)} holds a run already: go on with it by {as_typed('resume', folder)}, or choose "
            "another folder with hydra.run.dir."
        )
    if changed := differences(recipe, mark["recipe"], older=is_older(mark)):
        raise SettingError(
            f"{from_here(folder)} holds a run with other settings: {first_few(changed, shown=6)}. Choose another "
            "folder with hydra.run.dir."
        )
    if (folder / RESULT).exists():
        return Start(f"{from_here(folder)} holds this run, and it is finished.", finished=True)
    checkpoint = source if source and source.is_file() else newest_checkpoint(folder)
    if checkpoint is None:
        return Start(f"Goes on in {from_here(folder)} from the start: it has no checkpoint yet.")
    position = position_of(checkpoint)
    make_last(checkpoint, folder)
    begun = "" if recipe.get("checkpoint") is None else "The weights it began with (checkpoint) are not loaded again. "
    note = f"Goes on in {from_here(folder)} from {position}, with {checkpoint.name}. "
    note += begun + _explain_machine(recipe, mark)
    return Start(note.rstrip(), folder / "checkpoints" / LAST, position)


def _explain_machine(recipe: Mapping[str, object], mark: Mapping[str, object]) -> str:
    """Say what has changed about how the work lies on the machine, and what that does to the numbers."""
    changed = differences(recipe, mark["recipe"], keys=MACHINE, older=is_older(mark))
    if not changed:
        return ""
    text = f"It goes on with {first_few(changed, shown=6)}."
    if any(change.partition("=")[0] in LAYOUT for change in changed):
        text += (
            " Every step trains on the same images; BatchNorm and mixup see them in other portions, so the numbers "
            "can differ slightly."
        )
    return text


def _go_on_elsewhere(source: Path, folder: Path, recipe: Mapping[str, object]) -> Start:
    """Return the start of a new run in `folder` from the checkpoint of another run, whose metrics.csv is copied.

    Raises:
        SettingError: there is nothing to go on from, nothing left to train, or the recipe begins with other weights.
    """
    if (weights := recipe.get("checkpoint")) is not None:
        raise SettingError(
            f"checkpoint={weights} begins a new training with these weights, and resume={from_here(source)} goes on "
            "with another training; leave one of them out."
        )
    checkpoint = source if source.is_file() else newest_checkpoint(source)
    if checkpoint is None:
        raise SettingError(f"There is no checkpoint below {as_typed('resume', source)}.")
    position = position_of(checkpoint)
    _check_rest(position, recipe, checkpoint)
    origin = run_folder(checkpoint)
    mark = read_mark(origin) if origin else None
    changed = differences(recipe, mark["recipe"], older=is_older(mark)) if mark else []
    if origin and (origin / METRICS).is_file():
        replace_text(folder / METRICS, (origin / METRICS).read_text())
    why = f", because these settings differ: {first_few(changed, shown=6)}" if changed else ""
    note = f"Goes on from {position} of {from_here(checkpoint)}, in a folder of its own{why}."
    return Start(note, checkpoint, position)


def _check_rest(position: Position, recipe: Mapping[str, object], checkpoint: Path) -> None:
    """Refuse a training that is over where it would go on.

    Raises:
        SettingError: the checkpoint stands at the last epoch or step of the recipe, or behind it.
    """
    trainer = recipe.get("trainer") or {}
    epochs, steps = trainer.get("max_epochs") or math.inf, trainer.get("max_steps") or -1
    over = f"schedule.epochs={epochs}" if position.epoch >= epochs else f"trainer.max_steps={steps}"
    if position.epoch >= epochs or 0 < steps <= position.global_step:
        raise SettingError(
            f"{from_here(checkpoint)} has done step {position.global_step} and epoch {position.epoch}, so {over} "
            "leaves nothing to train. Choose more, or begin a new training with its weights by "
            f"{as_typed('checkpoint', checkpoint)}."
        )


def _follow_first_rank(resume: str | None, folder: Path) -> Start:
    """Return what the first rank finds, for the other ranks, which leave the folder as it is."""
    source = None if resume in (None, "auto") else as_absolute(resume)
    if source is not None and run_folder(source) != folder:
        return Start(checkpoint=source if source.is_file() else newest_checkpoint(source))
    if (folder / RESULT).exists():
        return Start(finished=True)
    return Start(checkpoint=folder / "checkpoints" / LAST if has_checkpoint(folder) else None)
