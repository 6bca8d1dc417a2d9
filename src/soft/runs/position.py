"""Where a training stands, and the counters from which Lightning goes on there.

Lightning's own counters depend on the hook that a checkpoint was written in, and some moments cannot be resumed from
them: after the last batch of an epoch it skips the validation that is due. So a checkpoint of ours says where the
training stands, and the counters are made from that, for the machine that goes on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from lightning.pytorch import Trainer

from soft.hardware.layout import BatchLayout


@dataclass(frozen=True)
class Position:
    """A moment between two optimiser steps, with everything before it done and logged.

    Attributes:
        epoch: epochs done.
        step: optimiser steps done of the next one.
        batch: batches of one device done of it, `step` times the accumulated ones.
        validating: these steps are to be validated next.
        global_step: optimiser steps since the start, skipped ones included.
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
        """Whether a row of metrics.csv was logged before this position."""
        step = int(row["step"])
        # The validation and the end of an epoch are logged under the epoch's last step, whose own row has a rate.
        due = self.validating and step == self.global_step - 1 and not row.get("lr")
        return step < self.global_step and not due


def current_position(trainer: Trainer) -> Position:
    """Where `trainer` stands: for hooks between the start of a batch, or of a validation, and the end of training."""
    epochs = trainer.fit_loop.epoch_progress.current
    if epochs.processed == epochs.started:  # between epochs
        return Position(epochs.processed, 0, 0, False, trainer.global_step)
    batch = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    step = -(-batch // trainer.accumulate_grad_batches)
    return Position(epochs.processed, step, batch, bool(trainer.validating), trainer.global_step)


def describe_position(position: Position, layout: BatchLayout) -> dict[str, object]:
    """Plain values to keep in a checkpoint, for `read_position`."""
    return {**asdict(position), "layout": asdict(layout)}


def read_position(
    saved: Mapping[str, object], layout: BatchLayout | None = None, steps_per_epoch: int | None = None
) -> Position:
    """The position in a checkpoint, for a run that lays the batch out as `layout`: after the same images.

    Where another global batch leaves part of a step, that part is trained on again.
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
    """State of Lightning's fit loop that goes on from `position`: for `checkpoint["loops"]["fit_loop"]`."""
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
    # What rows are logged under; Lightning counts a step after its validation.
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": position.global_step - position.validating}
    # A validation that stopped within its first batch is the one kind that Lightning starts again.
    validation = _progress(begun if position.validating else nothing, nothing)
    state["epoch_loop.val_loop.batch_progress"] = validation | {"is_last_batch": False}
    return state


def _progress(total: dict[str, int], current: dict[str, int]) -> dict[str, object]:
    return {"total": dict(total), "current": dict(current)}
