"""A training loop without a framework, timed in turns with the Trainer's steps of the same run."""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class BareLoop(Callback):
    """Callback that times training steps with the framework and without, and writes the figures as JSON.

    The file holds the time at which the first training step began, and for each loop the seconds of a step in each
    round. A step of either loop begins with loading its batch and ends with the weights' moving average. The bare loop
    works on copies of the model, optimiser, schedule and average, and neither logs nor runs callbacks. A figure spans
    `steps` whole steps, from the end of one batch to the end of another. The run stops after the last round.

    Args:
        output: path of the file.
        rounds: pairs of figures; 0 stops after the first step.
        steps: training steps in each figure.
    """

    def __init__(self, output: str, rounds: int, steps: int):
        self.output = Path(output)
        self.rounds = rounds
        self.steps = steps
        self._began: float | None = None
        self._figures: dict[str, list[float]] = {"framework": [], "bare": []}
        self._bare: Iterator[None] | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done = -1  # the clock starts at the end of the first batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._began is None:
            self._began = time.time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._done += 1
        if self._done == self.steps and self.rounds:
            self._figures["framework"].append((time.perf_counter() - self._start) / self.steps)
            self._figures["bare"].append(self._time_bare_steps(trainer, pl_module))
            self._done = 0
        if len(self._figures["bare"]) == self.rounds:
            trainer.should_stop = True
            self.output.write_text(json.dumps({"began": self._began, **self._figures}))
        if self._done == 0:
            self._start = time.perf_counter()

    def _time_bare_steps(self, trainer: Trainer, module: LightningModule) -> float:
        if self._bare is None:
            self._bare = bare_steps(trainer, module)
            next(self._bare)  # starts its first loader, untimed
        start = time.perf_counter()
        for _ in range(self.steps):
            next(self._bare)
        return (time.perf_counter() - start) / self.steps


def bare_steps(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Yield after each training step that `module` would take, on copies of what it trains."""
    (config,) = trainer.lr_scheduler_configs
    parts = (module.model, trainer.optimizers[0], config.scheduler, module.ema)
    model, optimizer, scheduler, ema = copy.deepcopy(parts)  # in one call, so that the optimiser has the copied weights
    number = trainer.global_step
    while True:
        for batch in trainer.datamodule.train_dataloader():
            images, targets = trainer.strategy.batch_to_device(batch)
            if module.mixup is not None:
                images, targets = module.mixup(images, targets)
            optimizer.zero_grad()
            with trainer.precision_plugin.forward_context():
                loss = module.train_loss(model(images), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), trainer.gradient_clip_val or torch.inf)
            optimizer.step()
            number += 1
            if ema is not None:
                ema.update(model, step=number)
            scheduler.step_update(number)
            yield
