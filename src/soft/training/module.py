"""The LightningModule: a backbone, its loss, mixup targets, metrics and averaged weights."""

from collections.abc import Mapping

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from soft.data.augmentation import Augmentation
from soft.data.mixing import Mixup
from soft.data.sampling import seed_position
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.training.evaluator import ImageEvaluator, update_metrics, validation_metrics
from soft.training.optim import build_optimizer, build_scheduler


class ImageClassifier(ImageEvaluator):
    """Trains `model` on (images, labels) batches.

    Logs train/loss, lr, grad_norm and, in percent, val/top1 and val/top5: of the averaged weights when there are any,
    with the raw ones beside them as val_raw/*. All randomness of a step follows from (seed, epoch, batch, rank), so a
    resumed run draws what the uninterrupted one would have drawn.

    Args:
        model: classifier, images (B, 3, H, W) -> logits (B, num_classes).
        augment: for its mixup, cutmix and label smoothing.
        optimizer: arguments of `build_optimizer`.
        schedule: arguments of `build_scheduler`.
        layout: how the global batch lies over devices and accumulated passes.
        steps_per_epoch: optimiser steps in an epoch.
        ema_decay: decay of the weights' moving average per step; 0 for none.
        ema_warmup: let the decay rise from 0 at the start, for runs shorter than 1 / (1 - decay) steps.
        validate_raw: validate the raw weights too, when there is an average.
        seed: of everything random in training.
        recipe: plain containers to keep in checkpoints, from which the model can be built again.
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
        recipe: Mapping[str, object] | None = None,
    ):
        super().__init__(model)
        if not isinstance(ema_decay, (int, float)) or not 0 <= ema_decay < 1:
            raise SettingError(f"ema.decay={ema_decay!r} has to be a number from 0 (off) up to, but not including, 1.")
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.recipe = recipe
        self._optimizer = build_optimizer(model, layout.global_batch, **optimizer)
        self._scheduler = build_scheduler(self._optimizer, layout.global_batch, steps_per_epoch, **schedule)
        self._schedule_per_epoch = bool(schedule.get("per_epoch"))

        self.mixup = None
        if augment.mixup > 0 or augment.cutmix > 0:
            if layout.per_device % 2:
                raise SettingError(
                    f"Mixup pairs the images of a batch, and data.batch_size={layout.global_batch} leaves an odd "
                    f"{layout.per_device} on each device. Choose an even share, or augment.mixup=0 augment.cutmix=0."
                )
            self.mixup = Mixup(
                mixup_alpha=augment.mixup,
                cutmix_alpha=augment.cutmix,
                prob=augment.mixup_prob,
                switch_prob=augment.mixup_switch_prob,
                label_smoothing=augment.label_smoothing,
                num_classes=model.num_classes,
            )
            self.train_loss = SoftTargetCrossEntropy()
        elif augment.label_smoothing > 0:
            self.train_loss = LabelSmoothingCrossEntropy(augment.label_smoothing)
        else:
            self.train_loss = nn.CrossEntropyLoss()

        # A submodule, so that Lightning saves, moves and restores both sets of weights, and nothing is ever swapped.
        self.ema = None
        if ema_decay:
            self.ema = ModelEmaV3(model, decay=ema_decay, use_warmup=ema_warmup).requires_grad_(False)
        self.raw_metrics = validation_metrics(model.num_classes) if self.ema and validate_raw else None

    @property
    def evaluated_model(self) -> nn.Module:
        """The model whose val/* metrics are reported: averaged weights if there are any."""
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
        trainer = self.trainer
        if 0 < trainer.max_steps < self.steps_per_epoch and trainer.limit_train_batches == 1.0:
            # Lightning would stop without a validation, and so without a result.
            trainer.val_check_interval = trainer.max_steps * trainer.accumulate_grad_batches

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        seed_position(self.seed, self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        loss = self.train_loss(self.model(images), targets)
        self.log("train/loss", loss, on_step=True, prog_bar=True, sync_dist=True)
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.log("lr", self._optimizer.param_groups[0]["lr"], on_step=True)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # One pass both clips and measures; without clipping the limit is infinite and only measures.
        limit = gradient_clip_val if gradient_clip_val else float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.log("grad_norm", norm, on_step=True)

    def optimizer_step(self, *args: object, **kwargs: object) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.model, step=self.global_step)

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
