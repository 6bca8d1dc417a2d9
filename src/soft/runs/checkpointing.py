"""Writes checkpoints whole or not at all, and keeps the last two to go on from: last.ckpt and previous.ckpt."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from soft.errors import SettingError
from soft.runs.last_checkpoint import LAST, PREVIOUS
from soft.runs.position import current_position
from soft.runs.signals import SIGNALS, stopped_by
from soft.settings import check_number, check_whole
from soft.writing import link_file, replace_file

# What a rank can ask for between two steps. A rank with a signal asks for STOP plus the signal's number, and the
# largest request of all ranks is followed.
GO_ON, SAVE, STOP = 0, 1, 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that writes a file whole or not at all, and reads nothing but tensors and plain containers.

    So it never executes code from a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        replace_file(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # on arbitrary bytes, unpickling can raise anything
            raise SettingError(
                f"{path} was not loaded: it is damaged, cut short or no checkpoint ({type(error).__name__})."
            ) from error


class LastCheckpoint(Callback):
    """Callback that writes last.ckpt and keeps the one before it as previous.ckpt.

    It writes at the end of every epoch, within an epoch by time or by steps, and on a signal: always between two
    optimiser steps, when everything before has been logged. On a signal (see `soft.runs.signals`) every rank writes
    the checkpoint and stops at the same step. A signal also ends a validation, which the resumed run repeats.

    Args:
        dirpath: folder of both files.
        every_n_minutes: minutes between two checkpoints within an epoch; None: no checkpoints by time.
        every_n_train_steps: optimiser steps between two checkpoints within an epoch; None: no checkpoints by steps.
    """

    def __init__(self, dirpath: str, every_n_minutes: float | None = 10.0, every_n_train_steps: int | None = None):
        if every_n_minutes is not None:
            check_number("callbacks.last_checkpoint.every_n_minutes", every_n_minutes, low=0)
        if every_n_train_steps is not None:
            check_whole("callbacks.last_checkpoint.every_n_train_steps", every_n_train_steps, low=1)
        self.dirpath = Path(dirpath)
        self.seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.every_n_train_steps = every_n_train_steps

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # ModelCheckpoint's state holds absolute paths, and in a folder that has moved it would forget its best value.
        new = str(self.dirpath.resolve())
        for state in checkpoint["callbacks"].values():
            old, best = state.get("dirpath"), state.get("best_model_path")
            if old in (None, new) or not best or not (self.dirpath / Path(best).name).is_file():
                continue
            state |= {name: state[name].replace(old, new) for name in ("dirpath", "best_model_path")}
            state["kth_best_model_path"] = state["kth_best_model_path"].replace(old, new)
            state["best_k_models"] = {path.replace(old, new): value for path, value in state["best_k_models"].items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The ranks exchange requests over the CPU, so that no step waits for an accelerator.
        self._ranks = dist.new_group(backend="gloo") if trainer.world_size > 1 else None
        self._saved = current_position(trainer)
        self._time = time.monotonic()
        SIGNALS.wait_for_checkpoint(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._obey(trainer, self._agree(SIGNALS.received + STOP if SIGNALS.received else self._due(trainer)))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Some ranks may have one batch more, and all ranks have to take part in each agreement.
        self._shared_batches = 0 if trainer.sanity_checking else -self._agree(-int(sum(trainer.num_val_batches)))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx < self._shared_batches:
            self._obey(trainer, self._agree(SIGNALS.received + STOP if SIGNALS.received else GO_ON))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def _due(self, trainer: Trainer) -> int:
        position = current_position(trainer)
        by_time = self.seconds is not None and time.monotonic() - self._time >= self.seconds
        by_steps = self.every_n_train_steps and position.global_step % self.every_n_train_steps == 0
        return SAVE if position.step and (by_time or by_steps) else GO_ON

    def _agree(self, request: int) -> int:
        """Return the largest request of all ranks."""
        if self._ranks is None:
            return request
        largest = torch.tensor(request)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._ranks)
        return int(largest)

    def _obey(self, trainer: Trainer, request: int) -> None:
        if request > STOP:
            SIGNALS.obey()
        if request != GO_ON:
            self._save(trainer)
        if request > STOP:
            raise stopped_by(trainer, request - STOP)

    def _save(self, trainer: Trainer) -> None:
        """Write last.ckpt, unless the last one written holds the same position."""
        position = current_position(trainer)
        if position == self._saved:
            return
        self._saved, self._time = position, time.monotonic()
        last, fresh = self.dirpath / LAST, self.dirpath / f".{LAST}"
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            if last.is_file():
                link_file(last, self.dirpath / PREVIOUS)
            fresh.replace(last)
