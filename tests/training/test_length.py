"""The length of a training, and the schedule that is fitted to it."""

from types import SimpleNamespace

import pytest
import torch

from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.training.length import prepare_last_epoch, training_length
from soft.training.optim import build_scheduler

LAYOUT = BatchLayout(devices=2, per_device=4, accumulate=2)  # 16 images a step


@pytest.mark.parametrize(
    ("settings", "epochs", "per_epoch", "steps"),
    [
        ({}, 4, 10, 40),
        ({"max_epochs": 1}, 1, 10, 10),
        ({"max_steps": 15}, 2, 10, 15),
        ({"max_steps": 100}, 4, 10, 40),
        ({"limit_train_batches": 0.5}, 4, 5, 20),
        ({"limit_train_batches": 3}, 4, 2, 8),  # batches of a device, two to a step
        ({"limit_train_batches": 1000}, 4, 10, 40),
    ],
)
def test_settings_that_shorten(settings, epochs, per_epoch, steps):
    length = training_length(165, LAYOUT, {"max_epochs": 4, **settings}, schedule_epochs=4)
    assert (length.epochs, length.steps_per_epoch, length.steps) == (epochs, per_epoch, steps)
    assert any("is fitted to" in note for note in length.notes) == (length.steps != per_epoch * 4)
    uneven = "takes 1 of 2 accumulated batches, and its gradient is scaled by 1/2"
    assert any(uneven in note for note in length.notes) == (settings.get("limit_train_batches") == 3)


@pytest.mark.parametrize(("max_batches", "max_steps", "ends"), [(4, 2, 4), (3, 2, 3), (4, 1, 2), (3, 3, None)])
def test_the_last_epoch_ends_with_its_last_step(max_batches, max_steps, ends):
    """Two batches to a step; with a limit, an epoch's last step may have one."""
    loop = SimpleNamespace(max_batches=max_batches, max_epochs=9)
    trainer = SimpleNamespace(fit_loop=loop, global_step=0, accumulate_grad_batches=2, val_check_batch=max_batches)
    trainer.current_epoch, trainer.check_val_every_n_epoch = 0, 1
    prepare_last_epoch(trainer, max_steps)
    assert (loop.max_batches, loop.max_epochs) == ((max_batches, 9) if ends is None else (ends, 1))


def test_no_step():
    with pytest.raises(SettingError, match="an epoch has no step"):
        training_length(15, LAYOUT, {"max_epochs": 1}, 1)
    with pytest.raises(SettingError, match=r"limit_train_batches=0\.01"):
        training_length(165, LAYOUT, {"max_epochs": 1, "limit_train_batches": 0.01}, 1)


def rates(steps=None, **schedule):
    """Return the learning rate of every step of a schedule of 4 epochs of 10 steps, or of `steps`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_scheduler(optimizer, 1024, 10, "cosine", 4, warmup_lr=0.1, min_lr=0.2, steps=steps, **schedule)
    out = []
    for step in range(steps or 40):
        out.append(optimizer.param_groups[0]["lr"])
        scheduler.step_update(step + 1)
    return out


def test_the_schedule_ends_with_the_training():
    whole, half = rates(warmup_epochs=2), rates(steps=20, warmup_epochs=2)
    assert whole[0] == half[0] == pytest.approx(0.1)
    assert whole[39] == pytest.approx(0.2, abs=0.01)
    assert half[19] == pytest.approx(0.2, abs=0.02)
    assert half[5] == pytest.approx(whole[10])  # half way through the warm-up, which shrinks alike


def test_the_same_length_is_the_same_schedule():
    assert rates(steps=40, warmup_epochs=1) == rates(warmup_epochs=1)
