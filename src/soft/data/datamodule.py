"""The images of one run: which data set, and how its files become a network's inputs."""

from pathlib import Path

import numpy as np
from torch import Tensor

from soft.data.augmentation import INTERPOLATIONS, Augmentation
from soft.data.bad_images import BadImages
from soft.data.batches import TRIES, Batch, TransformedImages, collate, normalise_and_erase
from soft.data.classification import ClassificationDataModule
from soft.data.datasets import BUILDERS, complete_options, fetch
from soft.data.facts import facts
from soft.data.image_sets import labels_of
from soft.data.sampling import SAMPLINGS, balanced_shares
from soft.data.transforms import EvalTransform, train_transform
from soft.errors import SettingError
from soft.settings import check_choice, check_number, check_numbers, check_whole


class ImageDataModule(ClassificationDataModule):
    """Images and labels for training and validation: batches of a float tensor (B, 3, H, W) and an integer one (B,).

    Loaders yield bytes (`soft.data.batches.Batch`), a quarter of the floats' size. `on_after_batch_transfer`, which the
    trainer calls on the device, makes the floats; without a trainer, call it on what a loader yields.

    Args:
        dataset: a name in `soft.data.datasets.BUILDERS`, whose functions describe the data sets and their options.
        root: the folder that holds the data, for data sets that have one.
        split: what validation and evaluation read, such as test or train; None for the validation images.
        img_size: pixels, an integer or [height, width].
        num_classes: must agree with the data.
        mean, std: per RGB channel, for pixel values between 0 and 1.
        crop_pct: evaluation resizes the short side to img_size / crop_pct and crops the centre.
        interpolation: of that resizing, bilinear or bicubic.
        hflip: probability of mirroring that suits the data, for augmentation recipes to refer to; unused here.
        sampling: how training images are drawn: `shuffled` (each once an epoch) or `balanced` (with replacement, every
            class equally often).
        batch_size: images of one optimiser step, over all devices and accumulated batches.
        val_batch_size: images per device.
        num_workers, seed: see `ClassificationDataModule`, which says also how batches are split over devices.
        augment: what happens to training images; None for nothing.
        max_bad_images: unreadable files that a process may meet; one more stops the run.
        options: the data set's own; the keywords of its builder. What is not given of them, of `img_size` to `crop_pct`
            and of `hflip` is taken from `soft.data.facts`.

    Attributes:
        sets, num_classes, class_names, train_size, val_size, notes: filled in by `setup`; `sets` are the images without
            any transform, `notes` are phrases for a run's summary.
        bad_images: the unreadable files met so far.

    Raises:
        SettingError: an argument of the wrong type or out of range. The methods raise it for data that is missing or
            does not fit the arguments.
    """

    in_chans = 3
    vocabulary = None

    def __init__(
        self,
        dataset: str,
        *,
        root: str | Path | None = None,
        split: str | None = None,
        img_size: int | list[int] | None = None,
        num_classes: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop_pct: float | None = None,
        interpolation: str = "bicubic",
        hflip: float | None = None,
        sampling: str = "shuffled",
        batch_size: int = 64,
        val_batch_size: int = 256,
        num_workers: int | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        max_bad_images: int = 0,
        **options,
    ):
        check_choice("`data.dataset`", dataset, BUILDERS)
        usual = facts(dataset)
        given = dict(img_size=img_size, num_classes=num_classes, mean=mean, std=std, crop_pct=crop_pct, hflip=hflip)
        chosen = {name: usual[name] if value is None else value for name, value in given.items()}
        super().__init__(dataset, split, chosen["img_size"], batch_size, val_batch_size, num_workers, augment, seed)
        check_numbers("`data.mean`", chosen["mean"], count=3, low=0, high=1)
        check_numbers("`data.std`", chosen["std"], count=3, low=0.001)
        check_number("`data.crop_pct`", chosen["crop_pct"], low=0.01, high=1)
        check_choice("`data.interpolation`", interpolation, INTERPOLATIONS)
        check_number("`data.hflip`", chosen["hflip"], low=0, high=1)
        check_choice("`data.sampling`", sampling, SAMPLINGS)
        check_whole("`data.max_bad_images`", max_bad_images, low=0)
        if chosen["num_classes"] is not None:
            check_whole("`data.num_classes`", chosen["num_classes"], low=1)

        self.num_classes = chosen["num_classes"]
        self.mean = tuple(chosen["mean"])
        self.std = tuple(chosen["std"])
        self.crop_pct = chosen["crop_pct"]
        self.interpolation = interpolation
        self.hflip = chosen["hflip"]
        self.sampling = sampling
        self.max_bad_images = max_bad_images
        self.bad_images = BadImages(max_bad_images)
        self.options = complete_options(dataset, {"root": root, **options}, self.num_classes, self.img_size)

    def prepare_data(self, stage: str | None = None) -> None:
        """Fetch the data if it can be fetched and is not there; called by several processes, one after the other.

        Args:
            stage: as for `setup`; None takes what the trainer is about to do.
        """
        if stage is None and self.trainer is not None:
            stage = self.trainer.state.fn
        if not self._has_read(stage):
            fetch(self.dataset, self.options, _trains(stage), self.split)

    def setup(self, stage: str | None = None) -> None:
        """Read the data set, unless that has been done.

        Args:
            stage: validate reads only what is evaluated; fit and None read the training images too.
        """
        if self._has_read(stage):
            return
        sets = BUILDERS[self.dataset](**self.options, train=_trains(stage), split=self.split)
        classes = len(sets.class_names)
        # An evaluation may read a folder with fewer classes than there are.
        fits = self.num_classes in (None, classes) or (not _trains(stage) and classes < self.num_classes)
        if not fits:
            raise SettingError(
                f"`data.num_classes`={self.num_classes}, but {self.dataset} has {classes} classes. Set "
                f"`data.num_classes` to {classes}, or to null to take what is there."
            )
        self.sets = sets
        self.num_classes = classes
        self.class_names = sets.class_names
        self.train_size = 0 if sets.train is None else len(sets.train)
        self.val_size = len(sets.val)
        self.notes = sets.notes

    def _has_read(self, stage: str | None) -> bool:
        return self.sets is not None and (self.sets.train is not None or not _trains(stage))

    @property
    def shares(self) -> np.ndarray | None:
        return balanced_shares(labels_of(self.sets.train)) if self.sampling == "balanced" else None

    def training_examples(self) -> TransformedImages:
        """Return the augmented training images."""
        transform = train_transform(self.augment, self.img_size, self.mean)
        limit = self.bad_images.limit
        return TransformedImages(self.sets.train, transform, self.seed, self.augment.erase_prob, limit)

    def validation_examples(self) -> TransformedImages:
        """Return the validation images, resized and cropped."""
        transform = EvalTransform(self.img_size, self.crop_pct, self.interpolation)
        return TransformedImages(self.sets.val, transform, self.seed)

    def validation_images(self, count: int) -> Tensor:
        """Return the first `count` validation images as a model takes them: normalised, (count, 3, H, W), on the CPU.

        Images that cannot be read are left out.
        """
        self.prepare_data("validate")
        self.setup("validate")
        examples = self.validation_examples()
        return self.network_inputs(collate([examples[index] for index in range(min(count, self.val_size))]))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, 3, H, W) in the trainer's precision and labels (B,), on the batch's device.

        Files that could not be read are counted here, in the main process.

        Raises:
            SettingError: there are more than `max_bad_images` of them.
        """
        training = self.trainer is not None and self.trainer.training
        self.bad_images.add(batch.bad, "Another image takes its place." if training else "It is left out.")
        if training and len(batch.labels) < self.per_device_batch:
            raise SettingError(
                f"{TRIES} training images in a row cannot be read, such as {next(iter(batch.bad))}; "
                "src/verify_data.py lists all of them."
            )
        self.batch_indices = batch.indices
        return self.network_inputs(batch), batch.labels

    def picture(self, index: int) -> np.ndarray:
        """Return what the network sees of a validation image, uint8 (H, W, 3)."""
        image, _ = self.sets.val[index]
        with image:
            return EvalTransform(self.img_size, self.crop_pct, self.interpolation)(image).permute(1, 2, 0).numpy()

    def network_inputs(self, batch: Batch) -> Tensor:
        """Return normalised images (B, 3, H, W) in the trainer's precision, on the batch's device."""
        images = normalise_and_erase(batch, self.mean, self.std)
        return self.trainer.precision_plugin.convert_input(images) if self.trainer else images


def _trains(stage: str | None) -> bool:
    return stage in (None, "fit")
