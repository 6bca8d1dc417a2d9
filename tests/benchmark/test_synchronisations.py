"""What waits for a GPU is found on a CPU, and a training step waits once."""

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from soft.benchmark.synchronisations import Synchronisations
from soft.hardware.layout import BatchLayout
from soft.launch.hardware import Hardware
from soft.launch.trainer import create_trainer
from soft.monitoring.throughput import Throughput
from tests.marks import slow
from tests.training.small_run import train

DEVICE = torch.device("cpu")  # stands for any device

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.isfinite().all()),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "numpy": lambda x: x.numpy(),
    "format": lambda x: f"{x.sum():.1f}",
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "number to the device": lambda x: torch.tensor(1.0, device=DEVICE),
    "number to where x is": lambda x: x.new_tensor([1.0]),
    "computed from both": lambda x: (x.sum() + torch.tensor(1.0)).item(),
}
NO_WAITS: dict[str, Callable[[Tensor], object]] = {
    "host tensor": lambda x: (torch.tensor(1.0) + torch.ones(())).item(),
    "literal cpu": lambda x: torch.tensor(1.0, device="cpu").item(),
    "read already": lambda x: [],
    "filled on the device": lambda x: x.new_full((), 1.0),
    "part": lambda x: x[1:2],
    "shape": lambda x: x.shape[0] + len(x),
    "to the device": lambda x: torch.ones(2).to(DEVICE, non_blocking=True),
    "where": lambda x: torch.where(x > 0, x, 0.0),
}


@pytest.mark.parametrize("act", WAITS.values(), ids=WAITS)
def test_a_wait_is_found_with_its_place(act):
    x = torch.ones(3)
    with Synchronisations() as found:
        act(x)

    assert len(found) == 1
    (place,) = found.places
    assert place.startswith("tests/benchmark/test_synchronisations.py:")


@pytest.mark.parametrize("act", NO_WAITS.values(), ids=NO_WAITS)
def test_what_does_not_wait_is_not_found(act):
    x = torch.ones(3)
    with Synchronisations() as found:
        act(x)

    assert not found.places


def test_what_was_read_is_on_the_host():
    x = torch.ones(3)
    with Synchronisations() as found:
        a, b, c = x.cpu().unbind()
        assert bool(a.isfinite())
        assert float(b) == c.item()

    assert len(found) == 1


class Watch(Callback):
    """Callback that looks at a training from its start, and counts the waits of the second and third step."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        first = batch_idx % trainer.accumulate_grad_batches == 0
        if first and trainer.global_step == 0:
            self.found = Synchronisations().__enter__()
        elif first and trainer.global_step == 1:
            self.found.places.clear()
        elif first and trainer.global_step == 3:
            self.found.__exit__(None, None, None)
            self.places = self.found.places


@pytest.mark.parametrize("precision", [slow("32-true"), "bf16-mixed"])
@pytest.mark.parametrize("log_every", [1, slow(50)])
@pytest.mark.parametrize("per_device", [4, 8], ids=["accumulated", "at once"])
def test_a_training_step_waits_once(precision, log_every, per_device, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # the bar of a terminal is drawn
    watch = Watch()

    train(
        tmp_path,
        Throughput(),
        watch,
        epochs=1,
        train_images=36,
        max_per_device=per_device,
        precision=precision,
        optimizer={"lr": 0.1, "foreach": True},  # PyTorch's choice on GPUs
        trainer_options={"log_every_n_steps": log_every},
    )

    assert sum(watch.places.values()) == 2, watch.places
    assert all("configure_gradient_clipping" in place for place in watch.places)


def test_ranks_do_not_ask_for_a_signal_before_every_batch():
    trainer = create_trainer(Hardware("cpu", 1, 1, BatchLayout(8, 8, 1)))

    with Synchronisations() as found:
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()

    assert not found.places
