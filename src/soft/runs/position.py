"""The point that a training has reached, and the counters with which Lightning goes on from there.

Lightning's own counters depend on the hook in which a checkpoint was written, and do not allow resuming at every
moment: after the last batch of an epoch, for example, Lightning skips the validation that is due. So our checkpoints
hold the position of the training. The counters are computed from it for the machine on which the training goes on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from lightning.pytorch import Trainer

from soft.hardware.layout import BatchLayout


@dataclass(frozen=True)
class Position:
    """A moment between two optimiser steps, when everything before it is done and logged.

    Attributes:
        epoch: number of finished epochs.
        step: optimiser steps done in the current epoch.
        batch: batches that each device has processed in the current epoch, which are `step` times `accumulate`.
        validating: whether the validation after these steps comes next.
        global_step: optimiser steps since the start of the training, skipped ones included.
    """

    epoch: int
    step: int
    batch: int
    validating: bool
    global_step: int

    def __str__(self) -> str:
        if self.validating:
            return f"the validation of epoch {self.epoch + 1}"
        return f"epoch {self.epoch + 1}" + (f" after {self.step} of its steps" if self.step else "")

    def keeps(self, row: Mapping[str, str]) -> bool:
        """Return whether a row of metrics.csv was logged before this position."""
        step = int(row["step"])
        # Validation and end of an epoch are logged under its last step; only the row of the step itself has an lr.
        due = self.validating and step == self.global_step - 1 and not row.get("lr")
        return step < self.global_step and not due


def current_position(trainer: Trainer) -> Position:
    """Return the position that `trainer` has reached.

    The result is right in hooks from the start of a batch, or of a validation, to the end of training.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    if epochs.processed == epochs.started:  # between epochs
        return Position(epochs.processed, 0, 0, False, trainer.global_step)
    batch = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    step = -(-batch // trainer.accumulate_grad_batches)
    return Position(epochs.processed, step, batch, bool(trainer.validating), trainer.global_step)


def describe_position(position: Position, layout: BatchLayout) -> dict[str, object]:
    """Return plain values to keep in a checkpoint, from which `read_position` restores the position."""
    return {**asdict(position), "layout": asdict(layout)}


def read_position(
    saved: Mapping[str, object], layout: BatchLayout | None = None, steps_per_epoch: int | None = None
) -> Position:
    """Return the position in a checkpoint for a run with batch layout `layout`: the position after the same images.

    If the run has another global batch, these images may end within a step; that step is then done from its start, and
    some of its images are trained on again.

    Args:
        saved: the values of `describe_position`.
        layout: layout of the run that goes on; None for that of the checkpoint.
        steps_per_epoch: optimiser steps in an epoch of that run; needed with a layout.
    """
    position = Position(**{name: value for name, value in saved.items() if name != "layout"})
    old = BatchLayout(**saved["layout"])
    if layout is None or (layout.global_batch == old.global_batch and layout.accumulate == old.accumulate):
        return position
    step = position.step
    if layout.global_batch != old.global_batch:
        last = steps_per_epoch if position.validating else steps_per_epoch - 1
        step = min(last, position.step * old.global_batch // layout.global_batch)
        position = replace(position, global_step=position.epoch * steps_per_epoch + step)
    return replace(position, step=step, batch=step * layout.accumulate)


def loop_state(trainer: Trainer, position: Position) -> dict[str, object]:
    """Return the state with which Lightning's fit loop goes on from `position`: `checkpoint["loops"]["fit_loop"]`."""
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    nothing = dict.fromkeys(begun, 0)
    epochs = dict.fromkeys(begun, position.epoch)
    if position.step:
        epochs |= {"ready": position.epoch + 1, "started": position.epoch + 1}
    batches = dict.fromkeys(begun, position.batch)
    steps = dict.fromkeys(("ready", "completed"), position.global_step)

    state = trainer.fit_loop.state_dict()
    state["epoch_progress"] = _progress(epochs, epochs)
    state["epoch_loop.batch_progress"] = _progress(batches, batches) | {"is_last_batch": position.validating}
    optimizer = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    optimizer["step"] = _progress(steps, dict.fromkeys(steps, position.step))
    # The step under which rows are logged; Lightning counts an epoch's last step only after the validation.
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": position.global_step - position.validating}
    # Lightning starts a validation again only if it was stopped within its first batch.
    validation = _progress(begun if position.validating else nothing, nothing)
    state["epoch_loop.val_loop.batch_progress"] = validation | {"is_last_batch": False}
    return state


def _progress(total: dict[str, int], current: dict[str, int]) -> dict[str, object]:
    return {"total": dict(total), "current": dict(current)}
