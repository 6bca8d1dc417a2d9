"""Finds the checkpoint of a run from which it goes on, and checks that it can."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from soft.errors import SettingError
from soft.models.checkpoints import find_damage
from soft.runs.folder import as_typed, from_here
from soft.runs.position import Position, read_position
from soft.writing import link_file

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
CHECKPOINTS = (LAST, PREVIOUS, "best.ckpt")  # in the order in which a run goes on from them


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint, whole or not, of the run in `folder`."""
    return any((folder / "checkpoints" / name).is_file() for name in CHECKPOINTS)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of the run in `folder`; None if it has none yet.

    Raises:
        SettingError: all of them are damaged.
    """
    damaged = []
    for path in (folder / "checkpoints" / name for name in CHECKPOINTS):
        if not path.is_file():
            continue
        if not (damage := find_damage(path)):
            if damaged:
                log.warning("%s; going on from %s.", "; ".join(damaged), path.name)
            return path
        damaged.append(f"{from_here(path)} is damaged ({damage})")
    if damaged:
        raise SettingError(f"{'; '.join(damaged)}. There is no other checkpoint to go on from.")
    return None


def position_of(checkpoint: Path) -> Position:
    """Return where a checkpoint stands.

    Raises:
        SettingError: the file is damaged, or no training can go on from it.
    """
    if damage := find_damage(checkpoint):
        raise SettingError(
            f"{from_here(checkpoint)} is damaged ({damage}). "
            f"{as_typed('resume', checkpoint.parent.parent)} takes the newest whole one."
        )
    try:
        return read_position(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["position"])
    except Exception as error:  # an archive of something else can hold anything
        raise SettingError(
            f"{from_here(checkpoint)} holds no training to go on with; if it is a file of weights, "
            f"{as_typed('checkpoint', checkpoint)} begins a new training with them."
        ) from error


def make_last(checkpoint: Path, folder: Path) -> None:
    """Make `checkpoint` the run's last.ckpt, from which the next resume=auto goes on; put a damaged last.ckpt aside."""
    last, previous = folder / "checkpoints" / LAST, folder / "checkpoints" / PREVIOUS
    if checkpoint == last:
        return
    if last.exists() and find_damage(last):
        last.replace(last.with_name("damaged.ckpt"))
    link_file(checkpoint, last)
    if previous != checkpoint:  # it may be later than the checkpoint that the run goes on from
        previous.unlink(missing_ok=True)


def check_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint's weights that do not fit `module`.

    Raises:
        SettingError: some do not fit; the message names them.
    """
    own = {key: value.shape for key, value in module.state_dict().items()}
    theirs = {key: value.shape for key, value in weights.items()}
    if wrong := [key for key in {**own, **theirs} if own.get(key) != theirs.get(key)]:
        raise SettingError(
            f"The checkpoint is of another model ({', '.join(wrong[:3])} do not fit). Resume with the model, the "
            "number of classes and ema.decay on or off as it was trained; src/evaluate.py takes any of its weights."
        )
