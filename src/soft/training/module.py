"""The LightningModule of every classification, of images and of generated tasks: loss, mixup, metrics, averaging."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from soft.data.augmentation import Augmentation
from soft.data.sampling import seed_generators
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.models import metadata
from soft.models.freezing import rest_frozen
from soft.runs.last_checkpoint import check_weights
from soft.runs.position import Position, current_position, describe_position, loop_state, read_position
from soft.training.build import check_classes, describe_weights, load_module
from soft.training.compilation import compiled_call
from soft.training.evaluator import ImageEvaluator, update_metrics, validation_metrics
from soft.training.length import prepare_last_epoch
from soft.training.loss import build_loss, build_mixup
from soft.training.nonfinite import NonFiniteGuard, SkippedStep, stop_with_report
from soft.training.optim import build_optimizer, build_scheduler, fuse_step, keep_settings
from soft.training.over_ranks import mean_over_ranks
from soft.training.weight_average import WeightAverage, share_statistics


class ImageClassifier(ImageEvaluator):
    """Module that trains `model` on (images, labels) batches.

    It logs train/loss, train/loss_epoch, lr, grad_norm, skipped_steps and the val/* metrics of `ImageEvaluator`. If the
    weights are averaged, val/* are metrics of the averaged weights, and val_raw/* those of the raw weights. All
    randomness of a step follows from (seed, epoch, batch, rank), so a resumed run draws what the uninterrupted one
    would have drawn. A step whose loss or gradient is not finite is skipped: it counts as a step of the schedule, and
    changes neither weights nor averages.

    Args:
        model: classifier, inputs such as images (B, 3, H, W) -> logits (B, num_classes).
        augment: augmentation, whose mixup, cutmix and label smoothing are applied here.
        optimizer: arguments of `build_optimizer`.
        schedule: arguments of `build_scheduler`.
        layout: how the global batch lies over devices and accumulated passes.
        steps_per_epoch: optimiser steps in an epoch.
        ema_decay: decay of the weights' moving average per step; 0 keeps no average.
        ema_warmup: let the decay rise from 0 at the start, for runs shorter than 1 / (1 - decay) steps.
        validate_raw: validate the raw weights too, when there is an average.
        seed: seed of everything random in training.
        max_steps: optimiser steps after which to stop, as at the end of an epoch; -1 for no limit.
        max_nonfinite_steps: steps in a row with a non-finite loss or gradient after which training stops.
        recipe: configuration in plain containers; checkpoints keep it, so that the model can be built again.
        compile: run the training step's forward pass compiled, see `compiled_call`; validation is never compiled, so
            that it gives what an evaluation of the checkpoint gives.
        steps: optimiser steps of the training, to which the schedule is fitted; None for those of its epochs.
        channels_last: store convolution weights channels-last in memory, so that convolutions compute in that layout.
        train_loss: loss of training; None for `build_loss(augment)`.
    """

    def __init__(
        self,
        model: nn.Module,
        augment: Augmentation,
        optimizer: Mapping[str, object],
        schedule: Mapping[str, object],
        layout: BatchLayout,
        steps_per_epoch: int,
        ema_decay: float = 0.0,
        ema_warmup: bool = False,
        validate_raw: bool = True,
        seed: int = 0,
        max_steps: int = -1,
        max_nonfinite_steps: int = 10,
        recipe: Mapping[str, object] | None = None,
        compile: bool | str | None = None,
        channels_last: bool = False,
        steps: int | None = None,
        train_loss: nn.Module | None = None,
    ):
        super().__init__(model.to(memory_format=torch.channels_last) if channels_last else model)
        if not isinstance(ema_decay, (int, float)) or not 0 <= ema_decay < 1:
            raise SettingError(f"ema.decay={ema_decay!r} has to be a number from 0 (off) up to, but not including, 1.")
        self.model.train()  # a loaded model is in evaluation mode, and Lightning leaves modes as they are
        rest_frozen(self.model)
        self.seed = seed
        self.layout = layout
        self.steps_per_epoch = steps_per_epoch
        self.max_steps = max_steps
        self.guard = NonFiniteGuard(model, max_nonfinite_steps)
        self.recipe = recipe
        self._train_model = compiled_call(model, compile)
        self._optimizer = build_optimizer(model, layout.global_batch, **optimizer)
        self._scheduler = build_scheduler(
            self._optimizer, layout.global_batch, steps_per_epoch, **schedule, steps=steps
        )
        self._schedule_per_epoch = bool(schedule.get("per_epoch"))

        self.mixup = build_mixup(augment, layout, model.num_classes)
        self.train_loss = train_loss or build_loss(augment)

        self.ema = None  # as a submodule, so that Lightning saves, moves and restores both sets of weights
        if ema_decay:
            self.ema = WeightAverage(model, decay=ema_decay, use_warmup=ema_warmup).requires_grad_(False)
        self.raw_metrics = validation_metrics(model.num_classes) if self.ema and validate_raw else None
        self._resumed: Position | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **_: object) -> "ImageClassifier":
        """Return the module of a checkpoint of ours, in evaluation mode, with its weights and their average."""
        return load_module(cls, checkpoint_path)

    @property
    def evaluated_model(self) -> nn.Module:
        """Return the model whose val/* metrics are reported: the one with averaged weights, if there is an average."""
        return self.ema.module if self.ema is not None else self.model

    def configure_optimizers(self) -> dict[str, object]:
        interval = "epoch" if self._schedule_per_epoch else "step"
        return {"optimizer": self._optimizer, "lr_scheduler": {"scheduler": self._scheduler, "interval": interval}}

    def lr_scheduler_step(self, scheduler: object, metric: object) -> None:
        if self._schedule_per_epoch:
            scheduler.step(self.current_epoch + 1)
        else:
            scheduler.step_update(self.global_step)

    def on_fit_start(self) -> None:
        # The sum of the loss over this epoch's images in batches with a finite loss, and the number of these images.
        dtype = torch.promote_types(next(self.model.parameters()).dtype, torch.float32)
        self._loss = torch.zeros(2, dtype=dtype, device=self.device)

    def on_train_start(self) -> None:
        fuse_step(self._optimizer)  # by now the parameters are on their device, and a checkpoint has been loaded
        if (at := self._resumed) is not None:
            self._loss += self._resumed_loss.to(self.device)
            # A schedule is a function of the step alone, so the step is all that has to be restored.
            if self._schedule_per_epoch:
                self._scheduler.step(at.epoch + at.validating)
            else:
                self._scheduler.step_update(at.global_step)
            prepare_last_epoch(self.trainer, self.max_steps, done=at.step)

    def on_train_epoch_start(self) -> None:
        prepare_last_epoch(self.trainer, self.max_steps)

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        seed_generators(self.seed, self.current_epoch, batch_idx, self.global_rank)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.guard.begin_step()
            self._batches: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        # Batches for `stop_with_report`: the last one alone, or all batches of the step once a step has failed.
        self._batches = [*(self._batches if self.guard.in_a_row else []), (images, targets)]
        loss = self.train_loss(self._train_model(images), targets)
        finite = loss.detach().isfinite()
        self._loss += torch.stack([torch.where(finite, loss.detach(), 0.0), finite]) * len(images)
        self._last_loss = loss.detach()
        # The factor makes the gradient of an infinite loss NaN on every rank, so that all ranks skip the step.
        return loss * torch.where(finite, 1.0, torch.nan)

    def on_train_epoch_end(self) -> None:
        total, images = self.trainer.strategy.reduce(self._loss, reduce_op="sum")
        self.log("train/loss_epoch", total / images)
        self._loss = torch.zeros_like(self._loss)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        # Only here does the host wait for the device in a step. What is logged is on the host from here on, so that
        # neither loggers nor the progress bar wait again.
        host_norm, host_loss = torch.stack([norm, mean_over_ranks(self._last_loss)]).cpu().unbind()
        self._finite = bool(host_norm.isfinite())  # every rank finds the same
        lr = max(group["lr"] for group in self._optimizer.param_groups)  # the classifier's rate, if layer_decay is set
        skipped = torch.tensor(float(self.guard.skipped + (not self._finite)))
        numbers = {"lr": torch.tensor(lr), "grad_norm": host_norm, "skipped_steps": skipped}
        self.log_dict({"train/loss": host_loss, **numbers}, on_step=True)
        if self._finite and gradient_clip_val:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        if not self._finite and self._scaler is None:  # a float16 loss scaler skips the step by itself
            raise SkippedStep

    def optimizer_step(self, *args: object, **kwargs: object) -> None:
        with suppress(SkippedStep):
            super().optimizer_step(*args, **kwargs)
        if not self._finite:
            self._skip_step()
            return
        self.guard.in_a_row = 0
        if self.ema is not None:
            self.ema.update(self.model, step=self.global_step)

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _skip_step(self) -> None:
        self.guard.skip_step(trouble=self._scaler is None or self._scaler.get_scale() < 1)
        if self.guard.in_a_row >= self.guard.limit:
            loop = self.trainer.fit_loop.epoch_loop
            with self.trainer.precision_plugin.forward_context():
                stop_with_report(
                    self.model,
                    self._batches,
                    folder=Path(self.recipe["output_dir"]) if self.recipe else Path(self.trainer.default_root_dir),
                    place=f"epoch {self.current_epoch + 1}, batch {loop.batch_idx + 1}",
                )

    def on_validation_start(self) -> None:
        super().on_validation_start()
        share_statistics(list(dict.fromkeys([self.model, self.evaluated_model])), self.trainer.world_size)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        images, labels = batch
        if self.raw_metrics is not None and len(labels):
            update_metrics(self.raw_metrics, self.model(images), labels)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.raw_metrics is not None:
            self.log_metrics("val_raw", self.raw_metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["recipe"] = self.recipe
        checkpoint[metadata.KEY] = describe_weights(self, self.trainer.datamodule)
        checkpoint["position"] = describe_position(current_position(self.trainer), self.layout)
        checkpoint["train_loss"] = self.all_gather(self._loss).view(-1, 2).cpu()
        checkpoint["skipped_steps"] = [self.guard.skipped, self.guard.in_a_row]

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        check_weights(self, checkpoint["state_dict"])
        check_classes(checkpoint, self.trainer.datamodule)
        keep_settings(self._optimizer, checkpoint["optimizer_states"][0])
        checkpoint["lr_schedulers"] = [self._scheduler.state_dict()]
        at = self._resumed = read_position(checkpoint["position"], self.layout, self.steps_per_epoch)
        checkpoint["loops"]["fit_loop"] = loop_state(self.trainer, at)
        if 0 < self.max_steps <= at.global_step and not at.validating:
            self.trainer.fit_loop.max_epochs = at.epoch
        losses, world_size = checkpoint["train_loss"], self.trainer.world_size
        first = self.global_rank == 0
        self._resumed_loss = losses[self.global_rank] if len(losses) == world_size else losses.sum(0) * first
        self.guard.skipped, self.guard.in_a_row = checkpoint["skipped_steps"]
