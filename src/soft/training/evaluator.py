"""Computes the validation metrics of a classifier, during training and on their own."""

import math
import time
from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from soft.errors import SettingError


class ImageEvaluator(LightningModule):
    """Module that logs val/loss (cross-entropy in nats), val/top1 and val/top5 (percent) over all validation images.

    Args:
        model: classifier, images (B, 3, H, W) -> logits (B, num_classes).
        class_indices: the model's class for each label of the data; None where they are the same.

    Attributes:
        images: number of images in the last validation, over all devices; unreadable files are not counted.
        images_per_second: speed of the last validation, over all devices; None for a single batch, which is not timed.
    """

    def __init__(self, model: nn.Module, class_indices: Sequence[int] | None = None):
        super().__init__()
        self.model = model
        indices = None if class_indices is None else torch.tensor(class_indices)
        self.register_buffer("class_indices", indices, persistent=False)
        self.metrics = validation_metrics(model.num_classes)
        self.count = SumMetric()
        self.images = 0
        self.images_per_second: float | None = None

    @property
    def evaluated_model(self) -> nn.Module:
        """Return the model whose val/* metrics are reported."""
        return self.model

    def forward(self, images: Tensor) -> Tensor:
        """Return the evaluated model's logits (B, num_classes) for images (B, 3, H, W)."""
        return self.evaluated_model(images)

    def on_validation_start(self) -> None:
        # Lightning's bf16-true converts the sums too, and bfloat16 counts no further than 256 images one by one.
        own = next((parameter.dtype for parameter in self.model.parameters()), torch.float32)
        dtype = torch.promote_types(own, torch.float32)
        for metric in self.modules():
            if isinstance(metric, (MeanMetric, SumMetric)):
                metric.set_dtype(dtype)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the metrics; return `logits` (B, num_classes) and `labels` (B,) of the model's classes."""
        images, labels = batch
        if self.class_indices is not None:
            labels = self.class_indices[labels]
        self.count.update(len(labels))
        logits = torch.empty(0, self.model.num_classes, device=labels.device)
        if len(labels):  # the last batch is empty if none of its images could be read
            logits = self.evaluated_model(images)
            update_metrics(self.metrics, logits, labels)
        # The speed is measured from the end of the first batch, so that starting the loader does not count.
        if batch_idx == 0:
            self._start, self._images = time.perf_counter(), 0
        else:
            self._images += len(labels) * self.trainer.world_size
        return {"logits": logits, "labels": labels}

    def on_validation_epoch_end(self) -> None:
        # Every rank calls compute(), which gathers over the ranks. Reading the value waits for the device.
        self.metrics["loss"].compute().item()
        self.images_per_second = self._images / (time.perf_counter() - self._start) if self._images else None
        self.images = int(self.count.compute())
        self.count.reset()
        self.log_metrics("val", self.metrics)

    def log_metrics(self, prefix: str, metrics: MetricCollection) -> None:
        """Log what `metrics` has gathered as `prefix`/NAME, with top-k in percent, and reset it."""
        for name, value in metrics.compute().items():
            self.log(f"{prefix}/{name}", 100 * value if name.startswith("top") else value, prog_bar=prefix == "val")
        metrics.reset()


def validation_metrics(num_classes: int) -> MetricCollection:
    """Return metrics for loss, top-1 and top-5 that add up exactly over ranks and uneven batches.

    With five classes or fewer, top-5 counts all of them and is 100 %.

    Raises:
        SettingError: there are fewer than two classes.
    """
    if num_classes < 2:
        raise SettingError(
            f"A classifier tells two or more classes apart, and `data.num_classes`={num_classes}; take data with more."
        )
    # With this strategy a NaN loss makes the mean NaN. "disable" would do so too, but ignores the weights.
    loss = MeanMetric(nan_strategy=math.nan)
    top5 = MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro")
    return MetricCollection(
        {"loss": loss, "top1": MulticlassAccuracy(num_classes, average="micro"), "top5": top5}, compute_groups=False
    )


def update_metrics(metrics: MetricCollection, logits: Tensor, labels: Tensor) -> None:
    """Add a batch to `metrics`: logits (B, num_classes), labels (B,)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    metrics["loss"].update(torch.nn.functional.cross_entropy(logits, labels), weight=len(labels))
    metrics["top1"].update(logits, labels)
    metrics["top5"].update(logits, labels)
