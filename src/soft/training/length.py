"""Works out the length of a training: its epochs and optimiser steps, which settings can shorten."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lightning.pytorch import Trainer

from soft.data.loading import limit_batches
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout


@dataclass(frozen=True)
class Length:
    """The length of a training.

    Attributes:
        epochs: passes over the data.
        steps_per_epoch: optimiser steps in an epoch.
        steps: optimiser steps of the whole training.
        planned: optimiser steps for which the schedule is written.
        accumulate: batches of a device in an optimiser step.
        rest: batches of a device in an epoch's last step, if `limit_train_batches` cuts that step short; 0 if it does
            not.
    """

    epochs: int
    steps_per_epoch: int
    steps: int
    planned: int
    accumulate: int = 1
    rest: int = 0

    @property
    def notes(self) -> list[str]:
        """Return phrases on a schedule fitted to another length than planned, and on steps of fewer batches."""
        notes = []
        if self.steps != self.planned:
            notes.append(
                f"the schedule of {self.planned:,} steps (schedule.epochs) is fitted to the {self.steps:,} steps of "
                "this training: its warm-up and its end come in the same proportion"
            )
        if self.rest:
            notes.append(
                f"the last step of an epoch takes {self.rest} of {self.accumulate} accumulated batches, and its "
                f"gradient is scaled by {self.rest}/{self.accumulate}; a multiple of {self.accumulate} in "
                "trainer.limit_train_batches avoids this"
            )
        return notes


def training_length(
    train_images: int, layout: BatchLayout, settings: Mapping[str, object], schedule_epochs: int
) -> Length:
    """Return the length of a training.

    Args:
        train_images: number of training images.
        layout: how the global batch lies over devices and accumulated passes.
        settings: the group `trainer`, of which `max_epochs`, `max_steps` and `limit_train_batches` are used.
        schedule_epochs: number of epochs for which the schedule is written.

    Raises:
        SettingError: an epoch would have no step.
    """
    whole = train_images // layout.global_batch
    if not whole:
        raise SettingError(
            f"data.batch_size={layout.global_batch} is more than the {train_images} training images; an epoch has no "
            "step."
        )
    limit = settings.get("limit_train_batches")
    batches = limit_batches(whole * layout.accumulate, limit, "trainer.limit_train_batches")
    per_epoch = math.ceil(batches / layout.accumulate)
    epochs, max_steps = settings["max_epochs"], settings.get("max_steps", -1)
    steps = per_epoch * epochs
    if 0 < max_steps < steps:
        steps = max_steps
    epochs, rest = math.ceil(steps / per_epoch), batches % layout.accumulate
    return Length(epochs, per_epoch, steps, per_epoch * schedule_epochs, layout.accumulate, rest)


def prepare_last_epoch(trainer: Trainer, max_steps: int, done: int = 0) -> None:
    """End the training at optimiser step `max_steps` if that lies in this epoch, and validate after the last epoch.

    Lightning's own max_steps ends without a validation, and cannot be resumed between epochs. Lightning's
    check_val_every_n_epoch leaves the last epoch without a validation if it is no multiple.

    Args:
        trainer: the Trainer, in an epoch that has begun.
        max_steps: optimiser steps of the whole training; -1 for no limit.
        done: optimiser steps of this epoch before the training was resumed.
    """
    loop = trainer.fit_loop
    steps = max_steps - trainer.global_step + done
    if 0 < steps <= math.ceil(loop.max_batches / trainer.accumulate_grad_batches):
        batches = min(steps * trainer.accumulate_grad_batches, loop.max_batches)  # fewer where the batches are limited
        loop.max_epochs = trainer.current_epoch + 1
        loop.max_batches = batches
        trainer.val_check_batch = min(trainer.val_check_batch, batches)
    epoch = trainer.current_epoch + 1
    if epoch == loop.max_epochs and (trainer.check_val_every_n_epoch or 1) > 1:
        # With the epoch's own number, and not 1, Lightning writes best.ckpt at the same moment as in other epochs.
        trainer.check_val_every_n_epoch = epoch
