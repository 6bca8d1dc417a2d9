"""The answer of a classifier to every image of an evaluation, recorded while it runs."""

from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.utilities.distributed import gather_all_tensors

BINS = 15  # of the calibration error, as in Guo et al. (ICML 2017)


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to N images, in the order of the data set; classes are those of the model's outputs.

    Attributes:
        indices: (N,) places of the images in the data set; those that could not be read are missing.
        labels: (N,) the images' classes.
        classes: (N,) the most probable classes.
        probabilities: (N,) float32, of the most probable class.
        label_probabilities: (N,) float32, of the image's class.
    """

    indices: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    label_probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def correct(self) -> np.ndarray:
        """Return (N,) booleans: the most probable class is the image's."""
        return self.classes == self.labels

    def calibration_error(self) -> float:
        """Return the expected calibration error in percent (ECE).

        It is the mean difference between the probability of the most probable class and how often that class is right,
        over BINS equal intervals of the probability, weighted by their images. It is NaN if there are no images or if
        a probability is not finite.
        """
        if not (len(self) and np.isfinite(self.probabilities).all()):
            return float("nan")
        # The calibration error of a multi-class answer is that of the binary question whether its first class is right.
        # A probability of 1 belongs to the last interval; torchmetrics would give it one of its own.
        below_one = float(np.nextafter(np.float32(1), np.float32(0)))
        probabilities = torch.from_numpy(self.probabilities).clamp(max=below_one)
        right = torch.from_numpy(self.correct).int()
        return 100 * float(binary_calibration_error(probabilities, right, n_bins=BINS, norm="l1"))


class AnswerRecorder(Callback):
    """Callback that keeps 32 bytes of each image that an `ImageEvaluator` validates, from all ranks.

    Attributes:
        answers: of the last validation; None on ranks other than 0.
    """

    def __init__(self):
        self.answers: Answers | None = None
        self._whole: list[Tensor] = []
        self._real: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._whole, self._real = [], []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Tensor], batch: tuple, index: int, _=0
    ) -> None:
        labels, probabilities = outputs["labels"], outputs["logits"].float().softmax(-1)
        if len(labels):
            highest, classes = probabilities.max(-1)
            of_label = probabilities.gather(1, labels[:, None])[:, 0]
            self._whole.append(torch.stack([trainer.datamodule.batch_indices.to(labels), labels, classes]))
            self._real.append(torch.stack([highest, of_label]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = pl_module.device
        whole = torch.cat([torch.empty(3, 0, dtype=torch.int64, device=device), *self._whole], dim=1)
        real = torch.cat([torch.empty(2, 0, device=device), *self._real], dim=1)
        if trainer.world_size > 1:
            whole, real = (torch.cat(gather_all_tensors(part), dim=1) for part in (whole, real))
        if trainer.is_global_zero:
            order = whole[0].argsort()
            self.answers = Answers(*whole[:, order].cpu().numpy(), *real[:, order].cpu().numpy())
        self._whole, self._real = [], []
