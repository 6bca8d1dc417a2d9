"""The data of one run: the sets, their loaders, and how the global batch is split over the devices."""

from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from soft.data.augmentation import INTERPOLATIONS, Augmentation
from soft.data.bad_images import BadImages
from soft.data.batches import TRIES, Batch, TransformedImages, normalise_and_erase
from soft.data.datasets import BUILDERS, complete_options, fetch
from soft.data.facts import facts
from soft.data.image_sets import ImageSets
from soft.data.loading import create_loader, first_batch, share_of_cores
from soft.data.preprocessing import PREPROCESSING, as_plain
from soft.data.sampling import EpochSampler, EvalSampler
from soft.data.transforms import EvalTransform, train_transform
from soft.errors import SettingError
from soft.settings import check_choice, check_number, check_numbers, check_pixels, check_text, check_whole


class ImageDataModule(LightningDataModule):
    """Images and labels for training and validation: batches of a float tensor (B, 3, H, W) and an integer one (B,).

    Loaders yield bytes (`soft.data.batches.Batch`), a quarter of the floats' size. `on_after_batch_transfer`, which the
    trainer calls on the device, makes the floats; without a trainer, call it on what a loader yields.

    The trainer must leave the samplers alone (`use_distributed_sampler=False`): they split the work themselves, so that
    a step trains on the same images on any number of devices, and validation sees each image once.

    Args:
        dataset: a name in `soft.data.datasets.BUILDERS`, where each is described.
        root: the folder that holds the data, for data sets that have one.
        split: what validation and evaluation read, such as test or train; None for the validation images.
        img_size: pixels, an integer or [height, width].
        num_classes: must agree with the data.
        mean, std: per RGB channel, for pixel values between 0 and 1.
        crop_pct: evaluation resizes the short side to img_size / crop_pct and crops the centre.
        interpolation: of that resizing, bilinear or bicubic.
        hflip: probability of mirroring that suits the data, for augmentation recipes to refer to; unused here.
        batch_size: images of one optimiser step, over all devices and accumulated batches.
        val_batch_size: images per device.
        num_workers: loader processes per device; None shares this machine's cores among its devices, at most 8 each.
        augment: what happens to training images; None for nothing.
        seed: fixes order and augmentation.
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
        batch_size: int = 64,
        val_batch_size: int = 256,
        num_workers: int | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        max_bad_images: int = 0,
        **options,
    ):
        super().__init__()
        check_choice("`data.dataset`", dataset, BUILDERS)
        usual = facts(dataset)
        given = dict(img_size=img_size, num_classes=num_classes, mean=mean, std=std, crop_pct=crop_pct, hflip=hflip)
        chosen = {name: usual[name] if value is None else value for name, value in given.items()}
        check_pixels("`data.img_size`", chosen["img_size"])
        check_numbers("`data.mean`", chosen["mean"], count=3, low=0, high=1)
        check_numbers("`data.std`", chosen["std"], count=3, low=0.001)
        check_number("`data.crop_pct`", chosen["crop_pct"], low=0.01, high=1)
        check_choice("`data.interpolation`", interpolation, INTERPOLATIONS)
        check_number("`data.hflip`", chosen["hflip"], low=0, high=1)
        check_whole("`data.batch_size`", batch_size, least=1)
        check_whole("`data.val_batch_size`", val_batch_size, least=1)
        check_whole("`data.max_bad_images`", max_bad_images, least=0)
        check_whole("seed", seed, least=0)
        if split is not None:
            check_text("`data.split`", split)
        if chosen["num_classes"] is not None:
            check_whole("`data.num_classes`", chosen["num_classes"], least=1)
        if num_workers is not None:
            check_whole("`data.num_workers`", num_workers, least=0)

        self.dataset = dataset
        self.split = split
        self.img_size = chosen["img_size"]
        self.num_classes = chosen["num_classes"]
        self.mean = tuple(chosen["mean"])
        self.std = tuple(chosen["std"])
        self.crop_pct = chosen["crop_pct"]
        self.interpolation = interpolation
        self.hflip = chosen["hflip"]
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.augment = augment or Augmentation()
        self.seed = seed
        self.bad_images = BadImages(max_bad_images)
        self.options = complete_options(dataset, {"root": root, **options}, self.num_classes, self.img_size)
        self.sets: ImageSets | None = None

    @property
    def preprocessing(self) -> dict[str, object]:
        """Return how images reach the network: PREPROCESSING, `dataset` and `class_names` (None before `setup`).

        The containers are plain, for checkpoints and for the comparison of an evaluation with the training.
        """
        plain = {name: as_plain(getattr(self, name)) for name in PREPROCESSING}
        names = None if self.sets is None else list(self.sets.class_names)
        return {**plain, "dataset": self.dataset, "class_names": names}

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
    def steps_per_epoch(self) -> int:
        """Return the optimiser steps in one epoch; the images of an incomplete last step are left out of that epoch."""
        if self.train_size < self.batch_size:
            raise SettingError(
                f"`data.batch_size`={self.batch_size} is more than the {self.train_size} training images of "
                f"{self.dataset}; an epoch would have no step."
            )
        return self.train_size // self.batch_size

    @property
    def per_device_batch(self) -> int:
        """Return the images that a device takes at a time: its share of the global batch in one accumulated batch."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        parts = self._num_replicas * accumulated
        share, rest = divmod(self.batch_size, parts)
        if rest:
            fits = " or ".join(str(n * parts) for n in (share, share + 1) if n)
            raise SettingError(
                f"`data.batch_size`={self.batch_size} is the global batch and does not split over "
                f"{self._num_replicas} devices x {accumulated} accumulated batches. Choose a multiple of {parts}, such "
                f"as {fits}."
            )
        return share

    def train_dataloader(self) -> DataLoader:
        """Return this rank's augmented batches of `steps_per_epoch` optimiser steps, in a new order every epoch."""
        transform = train_transform(self.augment, self.img_size, self.mean)
        images = TransformedImages(
            self.sets.train, transform, self.seed, self.augment.erase_prob, self.bad_images.limit
        )
        batch = self.per_device_batch
        start = first_batch(self.trainer, self.steps_per_epoch)  # an epoch without a step is an error here
        sampler = EpochSampler(
            self.train_size, self.seed, self.batch_size, batch, self._num_replicas, self._rank, start
        )
        return create_loader(images, sampler, batch, self.loader_workers)

    def val_dataloader(self) -> DataLoader:
        """Return this rank's share of the validation images; over all ranks, each image comes exactly once."""
        transform = EvalTransform(self.img_size, self.crop_pct, self.interpolation)
        images = TransformedImages(self.sets.val, transform, self.seed)
        sampler = EvalSampler(self.val_size, self._num_replicas, self._rank)
        return create_loader(images, sampler, self.val_batch_size, self.loader_workers)

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
        images = normalise_and_erase(batch, self.mean, self.std)
        return self.trainer.precision_plugin.convert_input(images) if self.trainer else images, batch.labels

    @property
    def loader_workers(self) -> int:
        """Return the number of processes of one loader."""
        if self.num_workers is not None:
            return self.num_workers
        return share_of_cores(self.trainer.num_devices if self.trainer else 1)

    @property
    def _num_replicas(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0


def _trains(stage: str | None) -> bool:
    return stage in (None, "fit")
