"""Logs images beside the curves: what the network is trained on, and what it attends to."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchvision.utils import make_grid

from soft.settings import check_whole
from soft.studies.attention_maps import attention_layers, draw_attention_maps

POINTS = ((0.5, 0.5), (0.25, 0.25))  # (x, y) as shares of the image's width and height, from its top left
DPI = 80  # dots per inch of the figures


class LoggedImages(Callback):
    """Callback that logs images/first_batch and images/attention_maps from rank 0, to loggers that take images.

    The first batch is shown as the training step sees it, augmented, erased and mixed, but without the normalisation.
    The maps are those of the evaluated model, always for the same validation images. Nothing is drawn if no logger
    takes images, or if the data consists of integers. Drawing does not change the random numbers of the training. The
    trainer's datamodule needs the `mean` and `std` of its images.

    Args:
        first_batch: number of images of the first batch; 0 for none.
        attention_images: number of validation images with maps; 0 for none.
        attention_every: epochs between two drawings of the maps, which are drawn after the first and the last epoch in
            any case; None for these two alone.
    """

    def __init__(self, first_batch: int = 16, attention_images: int = 4, attention_every: int | None = None):
        check_whole("callbacks.logged_images.first_batch", first_batch, low=0)
        check_whole("callbacks.logged_images.attention_images", attention_images, low=0)
        if attention_every is not None:
            check_whole("callbacks.logged_images.attention_every", attention_every, low=1)
        self.first_batch = first_batch
        self.attention_images = attention_images
        self.attention_every = attention_every
        self._images: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, _: LightningModule, outputs: object, batch: tuple, index: int
    ) -> None:
        if self.first_batch and trainer.current_epoch == index == 0 and image_loggers(trainer) and _has_images(trainer):
            # The training step has mixed the images of this batch in place.
            images = _denormalise(batch[0][: self.first_batch], trainer.datamodule)
            grid = make_grid(images, nrow=int(np.ceil(np.sqrt(len(images)))), pad_value=1.0)
            log_images(trainer, "images/first_batch", [(255 * grid).byte().permute(1, 2, 0).numpy()])

    def on_validation_batch_end(
        self, trainer: Trainer, _: LightningModule, outputs: object, batch: tuple, index: int, loader: int = 0
    ) -> None:
        if index == 0 and self._due(trainer):
            self._images = batch[0][: self.attention_images].clone()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        images, self._images = self._images, None
        if images is None or not attention_layers(pl_module.evaluated_model):
            return
        mean, std = trainer.datamodule.mean, trainer.datamodule.std
        with isolate_rng():
            figures = [
                draw_attention_maps(pl_module.evaluated_model, image.unsqueeze(0), POINTS, mean=mean, std=std)
                for image in images
            ]
        log_images(trainer, "images/attention_maps", [_pixels(figure) for figure in figures])

    def _due(self, trainer: Trainer) -> bool:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not self.attention_images or not fitting or not image_loggers(trainer) or not _has_images(trainer):
            return False
        epoch = trainer.current_epoch + 1
        regular = self.attention_every is not None and epoch % self.attention_every == 0
        return regular or epoch in (1, trainer.max_epochs)


def image_loggers(trainer: Trainer) -> list[Logger]:
    """Return the trainer's loggers that take images; none on ranks other than 0."""
    kinds = (WandbLogger, TensorBoardLogger)
    loggers = [logger for logger in trainer.loggers if isinstance(logger, kinds)]
    return [logger for logger in loggers if not getattr(logger, "disabled", False)] if trainer.is_global_zero else []


def log_images(trainer: Trainer, key: str, images: Sequence[np.ndarray]) -> None:
    """Log images, uint8 (H, W, 3), under the step that Lightning gives to metrics at this moment."""
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for logger in image_loggers(trainer):
        if isinstance(logger, WandbLogger):
            logger.log_image(key, list(images), step)
        else:
            for number, image in enumerate(images):
                logger.experiment.add_image(f"{key}/{number}", image, step, dataformats="HWC")


def _has_images(trainer: Trainer) -> bool:
    """Return whether the inputs are images of floats, and not token ids or grey values."""
    return getattr(trainer.datamodule, "vocabulary", None) is None


def _denormalise(images: Tensor, datamodule: object) -> Tensor:
    """Return normalised images (B, 3, H, W) as pixels from 0 to 1, in float32 and on the CPU."""
    mean, std = (torch.tensor(getattr(datamodule, name))[:, None, None] for name in ("mean", "std"))
    return (images.detach().float().cpu() * std + mean).clamp(0, 1)


def _pixels(figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
