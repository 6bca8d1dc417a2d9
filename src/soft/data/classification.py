"""The data of one run, whatever its inputs are: the loaders, and how the global batch is split over the devices."""

import inspect
from abc import abstractmethod

import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from soft.data.augmentation import Augmentation
from soft.data.image_sets import ImageSets, labels_of
from soft.data.loading import create_loader, first_batch, is_limit, share_of_cores
from soft.data.preprocessing import PREPROCESSING, as_plain
from soft.data.sampling import EpochSampler, EvalSampler
from soft.errors import SettingError
from soft.settings import check_pixels, check_text, check_whole


class ClassificationDataModule(LightningDataModule):
    """Inputs and labels for training and validation.

    The trainer must leave the samplers alone (`use_distributed_sampler=False`): they split the work themselves, so that
    a step trains on the same examples on any number of devices, and validation sees each example once.

    A subclass fills in the attributes, at the latest in `setup`, gives the examples that loaders gather, and turns the
    loaders' batches into the network's inputs in `on_after_batch_transfer`.

    Args:
        dataset: name of the data set.
        split: what validation and evaluation read, such as test or train; None for the validation examples.
        img_size: height and width of an input, or one number for both.
        batch_size: examples of one optimiser step, over all devices and accumulated batches.
        val_batch_size: examples per device.
        num_workers: loader processes per device; None shares this machine's cores among its devices, at most 8 each,
            or 16 for a GPU.
        augment: what happens to training examples; None for nothing.
        seed: fixes order and augmentation.

    Attributes:
        in_chans: channels of an image, or token ids per position.
        example_name: what an example is called, for a run's summary.
        size_unit: unit of `img_size` there.
        vocabulary: number of values that an input's integers may have; None for inputs of floats.
        options: the data set's own arguments.
        sets, num_classes, class_names, train_size, val_size, notes: `sets` are the examples without any transform,
            `notes` are phrases for a run's summary.
        batch_indices: (B,), the places in `sets.val` of the evaluation batch that `on_after_batch_transfer` gave last.

    Raises:
        SettingError: an argument of the wrong type or out of range.
    """

    in_chans: int
    vocabulary: int | None
    options: dict[str, object]
    num_classes: int | None
    class_names: list[str]
    train_size: int
    val_size: int
    notes: list[str]

    example_name = "image"
    size_unit = "px"

    def __init__(
        self,
        dataset: str,
        split: str | None,
        img_size: int | list[int],
        batch_size: int,
        val_batch_size: int,
        num_workers: int | None,
        augment: Augmentation | None,
        seed: int,
    ):
        super().__init__()
        check_pixels("`data.img_size`", img_size)
        check_whole("`data.batch_size`", batch_size, low=1)
        check_whole("`data.val_batch_size`", val_batch_size, low=1)
        check_whole("seed", seed, low=0)
        if split is not None:
            check_text("`data.split`", split)
        if num_workers is not None:
            check_whole("`data.num_workers`", num_workers, low=0)
        self.dataset = dataset
        self.split = split
        self.img_size = img_size
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.augment = augment or Augmentation()
        self.seed = seed
        self.sets: ImageSets | None = None
        self.batch_indices: Tensor | None = None

    def prepare_data(self, stage: str | None = None) -> None:
        """Fetch what is not there; called by several processes, one after the other.

        Args:
            stage: as for `setup`; None takes what the trainer is about to do.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read the data set, unless that has been done.

        Args:
            stage: validate reads only what is evaluated; fit and None read the training examples too.
        """

    @abstractmethod
    def training_examples(self) -> Dataset:
        """Return what training loaders gather: `examples[(epoch, index)]` is a `soft.data.batches.Sample`."""

    @abstractmethod
    def validation_examples(self) -> Dataset:
        """Return what validation loaders gather: `examples[index]` is a `soft.data.batches.Sample`."""

    def picture(self, index: int) -> np.ndarray | None:
        """Return what the network sees of a validation example, uint8 (H, W, 3); None where that is no picture."""
        return None

    @property
    def preprocessing(self) -> dict[str, object]:
        """Return how inputs reach the network: what the data has of PREPROCESSING, `dataset` and `class_names`.

        The names of classes are None before `setup`. The containers are plain, for checkpoints and for the comparison
        of an evaluation with the training.
        """
        plain = {name: as_plain(getattr(self, name)) for name in PREPROCESSING if hasattr(self, name)}
        names = None if self.sets is None else list(self.sets.class_names)
        return {**plain, "dataset": self.dataset, "class_names": names}

    @property
    def arguments(self) -> dict[str, object]:
        """Return the arguments with which this module can be made again, except `augment`.

        An argument is read from the attribute of its name, and the data set's own from `options`.
        """
        names = [name for name in inspect.signature(type(self)).parameters if name not in ("augment", "options")]
        return {name: getattr(self, name) for name in names if hasattr(self, name)} | dict(self.options)

    @property
    def class_counts(self) -> list[int] | None:
        """Return how many training examples each class has; None where they are labelled only when they are made."""
        labels = labels_of(self.sets.train)
        return None if labels is None else np.bincount(labels, minlength=self.num_classes).tolist()

    @property
    def shares(self) -> np.ndarray | None:
        """Return how likely each training example is to be drawn, (N,); None for each one once an epoch."""
        return None

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimiser steps in one epoch; the examples of an incomplete last step are left out of it."""
        if self.train_size < self.batch_size:
            raise SettingError(
                f"`data.batch_size`={self.batch_size} is more than the {self.train_size} training examples of "
                f"{self.dataset}; an epoch would have no step."
            )
        return self.train_size // self.batch_size

    @property
    def per_device_batch(self) -> int:
        """Return how many examples a device takes at a time: its share of the global batch in one accumulated batch."""
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
        """Return this rank's batches of `steps_per_epoch` optimiser steps, in a new order every epoch."""
        batch = self.per_device_batch
        start = first_batch(self.trainer, self.steps_per_epoch)  # an epoch without a step is an error here
        sampler = EpochSampler(
            self.train_size, self.seed, self.batch_size, batch, self._num_replicas, self._rank, start, self.shares
        )
        return create_loader(self.training_examples(), sampler, batch, self.loader_workers, self._device_type)

    def val_dataloader(self) -> DataLoader:
        """Return this rank's share of the validation examples; over all ranks, each comes exactly once.

        If the trainer limits the batches, the first ones are spread evenly over the examples.
        """
        spread = self.trainer is not None and is_limit(self.trainer.limit_val_batches)
        sampler = EvalSampler(self.val_size, self._num_replicas, self._rank, spread)
        return create_loader(
            self.validation_examples(), sampler, self.val_batch_size, self.loader_workers, self._device_type
        )

    @property
    def loader_workers(self) -> int:
        """Return the number of processes of one loader."""
        if self.num_workers is not None:
            return self.num_workers
        return share_of_cores(self.trainer.num_devices if self.trainer else 1, self._device_type)

    @property
    def _device_type(self) -> str:
        return self.trainer.strategy.root_device.type if self.trainer else "cpu"

    @property
    def _num_replicas(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0
