"""The data module of tasks whose inputs are integers: generated ones, and images as grey pixels."""

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from soft.data.augmentation import Augmentation
from soft.data.batches import Batch, Sample
from soft.data.datamodule import ImageDataModule
from soft.data.datasets import DOWNLOADS, one_at_a_time
from soft.data.sampling import EpochSampler, ShardSampler
from soft.errors import SettingError
from soft.settings import check_whole


class TaskDataModule(ImageDataModule):
    """Token ids or grey values and labels: batches of integers (B, fields, H, W) and (B,).

    Order, devices and workers are `ImageDataModule`'s. Nothing augments the inputs.

    Args:
        dataset: `recall`, `listops`, `pathfinder` or `pixels`.
        img_size: height and width in tokens; [1, N] for a sequence.
        num_classes: must agree with the data; None takes what is there.
        vocabulary: number of token ids or grey values that the model is built for.
        fields: token ids per position.
        batch_size, val_batch_size, num_workers, seed, root: see `ImageDataModule`.
        augment: only its label smoothing may be on, see `setup`.
        hflip: not used; the augmentation recipes refer to it.
        options: the data set's own; the keywords of its builder in `soft.data.tasks.builders`.

    Raises:
        SettingError: as `ImageDataModule`; `setup` also for an augmentation that changes inputs.
    """

    def __init__(
        self,
        *,
        dataset: str,
        img_size: int | list[int],
        num_classes: int | None,
        vocabulary: int,
        fields: int,
        batch_size: int,
        val_batch_size: int,
        num_workers: int | None,
        augment: Augmentation,
        seed: int,
        hflip: float = 0.0,
        **options,
    ):
        check_whole("data.vocabulary", vocabulary, least=2)
        check_whole("data.fields", fields, least=1)
        super().__init__(
            dataset=dataset,
            img_size=img_size,
            num_classes=num_classes,
            mean=[0.5, 0.5, 0.5],
            std=[0.5, 0.5, 0.5],
            crop_pct=1.0,
            interpolation="bicubic",
            hflip=hflip,
            batch_size=batch_size,
            val_batch_size=val_batch_size,
            num_workers=num_workers,
            augment=augment,
            seed=seed,
            grid=img_size,
            vocabulary=vocabulary,
            fields=fields,
            **options,
        )

    def prepare_data(self) -> None:
        """Fetch the images that data=pixels reads, as `ImageDataModule` does; the other tasks need no file."""
        source, root = self.options.get("source"), self.options.get("root")
        if source in DOWNLOADS:
            if root is None:
                raise SettingError(f"data.source={source} needs data.root, the folder that holds it.")
            with one_at_a_time(root):
                DOWNLOADS[source](root)

    def setup(self, stage: str | None = None) -> None:
        """Check the settings and build the data; a second call does nothing."""
        if not self.augment.keeps_images or self.augment.mixup or self.augment.cutmix:
            raise SettingError(f"Nothing augments the token ids of data={self.dataset}; choose augment=none.")
        super().setup(stage)

    def train_dataloader(self) -> DataLoader:
        """This rank's batches of `steps_per_epoch` optimiser steps, in a new order every epoch."""
        _ = self.steps_per_epoch  # an epoch without a step is an error, not an empty loader
        batch = self.per_device_batch
        sampler = EpochSampler(
            self.train_size, self.seed, self.batch_size, batch, self._num_replicas, self._rank, self._start()
        )
        return self._loader(Samples(self.sets.train), sampler, batch)

    def val_dataloader(self) -> DataLoader:
        """This rank's share of the validation examples; over all ranks, each comes exactly once."""
        sampler = ShardSampler(self.val_size, self._num_replicas, self._rank)
        return self._loader(Samples(self.sets.val), sampler, self.val_batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """A loader's batch -> token ids (B, fields, H, W) and labels (B,), integers."""
        return batch.images, batch.labels


class Samples(Dataset):
    """A task in the form that the loaders gather, indexed by an index or, as in training, by (epoch, index)."""

    def __init__(self, task: Dataset):
        self.task = task

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, position: int | tuple[int, int]) -> Sample:
        tokens, label = self.task[position[1] if isinstance(position, tuple) else position]
        return Sample(tokens, label, None, {})
