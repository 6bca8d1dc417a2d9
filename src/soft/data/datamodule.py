"""The data of one run: the sets, their loaders, and how the global batch is split over the devices."""

import inspect
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from soft.data.augmentation import INTERPOLATIONS, Augmentation
from soft.data.bad_images import BadImages
from soft.data.batches import TRIES, Batch, TransformedImages, collate, finish
from soft.data.datasets import BUILDERS, COPIES, DOWNLOADS, one_at_a_time
from soft.data.image_sets import ImageSets
from soft.data.sampling import EpochSampler, ShardSampler
from soft.data.transforms import EvalTransform, train_transform
from soft.data.workers import outlive_sigterm
from soft.errors import SettingError
from soft.hardware.devices import cores_per_process
from soft.settings import check_choice, check_number, check_numbers, check_pixels, check_whole

MOST_WORKERS = 8


class ImageDataModule(LightningDataModule):
    """Images and labels for training and validation: batches of a float tensor (B, 3, H, W) and an integer one (B,).

    Loaders yield bytes (`soft.data.batches.Batch`), a quarter of the floats' size. `on_after_batch_transfer`, which the
    trainer calls on the device, makes the floats; without a trainer, call it on what a loader yields.

    The trainer must leave the samplers alone (`use_distributed_sampler=False`): they split the work themselves, so that
    a step trains on the same images on any number of devices, and validation sees each image once.

    Args:
        dataset: a name in `soft.data.datasets.BUILDERS`.
        img_size: pixels, an integer or [height, width].
        num_classes: must agree with the data; None takes what is there.
        mean, std: per RGB channel, for pixel values between 0 and 1.
        crop_pct: evaluation resizes the short side to img_size / crop_pct and crops the centre.
        interpolation: of that resizing, bilinear or bicubic.
        hflip: probability of mirroring that suits the data; not used here, the augmentation recipes refer to it.
        batch_size: images of one optimiser step, over all devices and accumulated batches.
        val_batch_size: images per device.
        num_workers: loader processes per device; None shares this machine's cores among its devices, at most 8 each.
        augment: what happens to training images.
        seed: fixes order and augmentation.
        root: the folder that holds the data, for data sets that have one.
        max_bad_images: unreadable files that a process may meet; one more stops the run.
        options: the data set's own; the keywords of its builder.

    Attributes:
        sets, num_classes, class_names, train_size, val_size, notes: filled in by `setup`; `sets` are the images without
            any transform, `notes` are for a run's summary.
        bad_images: the unreadable files met so far.

    Raises:
        SettingError: a setting of the wrong type or out of range. The methods raise it for data that is missing or does
            not fit the settings.
    """

    def __init__(
        self,
        *,
        dataset: str,
        img_size: int | list[int],
        num_classes: int | None,
        mean: list[float],
        std: list[float],
        crop_pct: float,
        interpolation: str,
        hflip: float,
        batch_size: int,
        val_batch_size: int,
        num_workers: int | None,
        augment: Augmentation,
        seed: int,
        root: str | None = None,
        max_bad_images: int = 0,
        **options,
    ):
        super().__init__()
        check_choice("data.dataset", dataset, BUILDERS)
        check_pixels("data.img_size", img_size)
        check_numbers("data.mean", mean, count=3, low=0, high=1)
        check_numbers("data.std", std, count=3, low=0.001)
        check_number("data.crop_pct", crop_pct, low=0.01, high=1)
        check_choice("data.interpolation", interpolation, INTERPOLATIONS)
        check_number("data.hflip", hflip, low=0, high=1)
        check_whole("data.batch_size", batch_size, least=1)
        check_whole("data.val_batch_size", val_batch_size, least=1)
        check_whole("data.max_bad_images", max_bad_images, least=0)
        check_whole("seed", seed, least=0)
        if num_classes is not None:
            check_whole("data.num_classes", num_classes, least=1)
        if num_workers is not None:
            check_whole("data.num_workers", num_workers, least=0)
        if root is not None:
            options["root"] = root if dataset in COPIES and "://" in root else Path(root).expanduser()
        try:
            inspect.signature(BUILDERS[dataset]).bind(**options)
        except TypeError as error:
            raise SettingError(f"data.dataset={dataset} and the other data settings do not fit: {error}.") from None

        self.dataset = dataset
        self.options = options
        self.img_size = img_size
        self.num_classes = num_classes
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.hflip = hflip
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.seed = seed
        self.bad_images = BadImages(max_bad_images)
        self.sets: ImageSets | None = None

    def prepare_data(self) -> None:
        """Fetch the data if it can be fetched and is not there; called by several processes, one after the other."""
        if self.dataset in DOWNLOADS:
            with one_at_a_time(self.options["root"]):
                DOWNLOADS[self.dataset](self.options["root"])
        if self.dataset in COPIES:
            COPIES[self.dataset](**self.options)

    def setup(self, stage: str | None = None) -> None:
        """Read the data set; a second call does nothing."""
        if self.sets is not None:
            return
        sets = BUILDERS[self.dataset](**self.options)
        classes = len(sets.class_names)
        if self.num_classes not in (None, classes):
            raise SettingError(
                f"data.num_classes={self.num_classes}, but {self.dataset} has {classes} classes. Set data.num_classes "
                f"to {classes} or null."
            )
        self.sets = sets
        self.num_classes = classes
        self.class_names = sets.class_names
        self.train_size = len(sets.train)
        self.val_size = len(sets.val)
        self.notes = sets.notes

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch; the images of an incomplete last step are left out of that epoch."""
        if self.train_size < self.batch_size:
            raise SettingError(
                f"data.batch_size={self.batch_size} is more than the {self.train_size} training images of "
                f"{self.dataset}; an epoch would have no step."
            )
        return self.train_size // self.batch_size

    @property
    def per_device_batch(self) -> int:
        """Images that a device takes at a time: the global batch, split over devices and accumulated batches."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        parts = self._num_replicas * accumulated
        share, rest = divmod(self.batch_size, parts)
        if rest:
            fits = " or ".join(str(n * parts) for n in (share, share + 1) if n)
            raise SettingError(
                f"data.batch_size={self.batch_size} is the global batch and does not split over {self._num_replicas} "
                f"devices x {accumulated} accumulated batches. Choose a multiple of {parts}, such as {fits}."
            )
        return share

    def train_dataloader(self) -> DataLoader:
        """This rank's augmented batches of `steps_per_epoch` optimiser steps, in a new order every epoch."""
        _ = self.steps_per_epoch  # an epoch without a step is an error, not an empty loader
        transform = train_transform(self.augment, self.img_size, self.mean)
        images = TransformedImages(
            self.sets.train, transform, self.seed, self.augment.erase_prob, self.bad_images.limit
        )
        batch = self.per_device_batch
        sampler = EpochSampler(
            self.train_size, self.seed, self.batch_size, batch, self._num_replicas, self._rank, self._start()
        )
        return self._loader(images, sampler, batch)

    def val_dataloader(self) -> DataLoader:
        """This rank's share of the validation images; over all ranks, each image comes exactly once."""
        transform = EvalTransform(self.img_size, self.crop_pct, self.interpolation)
        images = TransformedImages(self.sets.val, transform, self.seed)
        return self._loader(images, ShardSampler(self.val_size, self._num_replicas, self._rank), self.val_batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """A loader's batch -> normalised images (B, 3, H, W) in the trainer's precision and labels (B,), where it lies.

        Files that could not be read are counted here, in the main process: there are more than `max_bad_images` of them
        if this raises a SettingError.
        """
        training = self.trainer is not None and self.trainer.training
        self.bad_images.add(batch.bad, "Another image takes its place." if training else "It is left out.")
        if training and len(batch.labels) < self.per_device_batch:
            raise SettingError(
                f"{TRIES} training images in a row cannot be read, such as {next(iter(batch.bad))}; "
                "src/verify_data.py lists all of them."
            )
        images = finish(batch, self.mean, self.std)
        return self.trainer.precision_plugin.convert_input(images) if self.trainer else images, batch.labels

    @property
    def loader_workers(self) -> int:
        """Processes of one loader."""
        if self.num_workers is not None:
            return self.num_workers
        devices_here = self.trainer.num_devices if self.trainer else 1
        return min(MOST_WORKERS, cores_per_process(devices_here))

    @property
    def _num_replicas(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _start(self) -> tuple[int, int]:
        """(epoch, batches of it already done): (0, 0) unless a checkpoint has been loaded.

        Lightning starts the first pass of a resumed run, and with it the workers, before it calls `set_epoch`.
        """
        if self.trainer is None:
            return 0, 0
        epochs = self.trainer.fit_loop.epoch_progress.current
        if epochs.processed == epochs.started:
            return epochs.processed, 0
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.processed
        batches = self.steps_per_epoch * self.trainer.accumulate_grad_batches
        return (epochs.processed, done) if done < batches else (epochs.processed + 1, 0)

    def _loader(self, images: TransformedImages, sampler: Sampler, batch_size: int) -> DataLoader:
        workers = self.loader_workers
        # A worker process limits itself to one PyTorch thread, so the workers do not fight over the cores.
        return DataLoader(
            images,
            batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=outlive_sigterm,
            pin_memory=torch.cuda.is_available(),
        )
