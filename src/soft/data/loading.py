"""The loaders of one process: how many workers each has, and at which batch the first pass begins."""

import math

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Sampler

from soft.data.batches import TransformedImages, collate
from soft.data.workers import outlive_sigterm
from soft.errors import SettingError
from soft.hardware.devices import cores_per_process

MAX_WORKERS = 8  # per device
MAX_WORKERS_OF_GPU = 16  # more, because a GPU takes more images in a second than 8 workers can prepare


def create_loader(
    images: TransformedImages, sampler: Sampler, batch_size: int, num_workers: int, device_type: str = "cpu"
) -> DataLoader:
    """Return a loader of `soft.data.batches.Batch`.

    Args:
        device_type: of the device that takes the batches. For cuda they are put into pinned memory, from which a GPU
            copies them while it computes.
    """
    # A worker process limits itself to one PyTorch thread, so the workers do not fight over the cores.
    return DataLoader(
        images,
        batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=outlive_sigterm,
        pin_memory=device_type == "cuda",
    )


def share_of_cores(devices: int, device_type: str = "cpu") -> int:
    """Return the number of loader processes for each of `devices` devices of this machine."""
    return min(MAX_WORKERS_OF_GPU if device_type == "cuda" else MAX_WORKERS, cores_per_process(devices))


def first_batch(trainer: Trainer | None, steps_per_epoch: int) -> tuple[int, int]:
    """Return (epoch, batches of it already done) for the first pass of a training loader.

    That is (0, 0) unless a checkpoint has been loaded. Lightning starts the first pass of a resumed run, and with it
    the workers, before it calls `set_epoch`.
    """
    if trainer is None:
        return 0, 0
    epochs = trainer.fit_loop.epoch_progress.current
    if epochs.processed == epochs.started:
        return epochs.processed, 0
    done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    batches = steps_per_epoch * trainer.accumulate_grad_batches
    return (epochs.processed, done) if done < batches else (epochs.processed + 1, 0)


def is_limit(limit: float | None) -> bool:
    """Return whether a trainer's `limit_train_batches` or `limit_val_batches` may leave batches out."""
    return limit is not None and not (isinstance(limit, float) and limit == 1)


def limit_batches(batches: int, limit: float | None, setting: str) -> int:
    """Return how many of `batches` remain, as Lightning counts them.

    Args:
        limit: a number of batches (an integer), a share of them (a float), or None for all.
        setting: the name of `limit` for messages.

    Raises:
        SettingError: none remains.
    """
    if not is_limit(limit):
        return batches
    left = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if left < 1:
        raise SettingError(f"{setting}={limit} leaves none of {batches} batches; raise it.")
    return left


def limit_note(size: int, batch_size: int, devices: int, limit: float | None, example_name: str) -> str | None:
    """Return a phrase if `trainer.limit_val_batches` leaves validation examples out, else None.

    Args:
        size: number of validation examples.
        batch_size: examples of a device's batch.
        devices: number of ranks.
        limit: of the batches of each rank.
        example_name: what an example is called.
    """
    shares = [len(range(rank, size, devices)) for rank in range(devices)]
    batches = [limit_batches(math.ceil(share / batch_size), limit, "trainer.limit_val_batches") for share in shares]
    seen = sum(min(share, batch_size * count) for share, count in zip(shares, batches, strict=True))
    if seen == size:
        return None
    return (
        f"trainer.limit_val_batches={limit}: validation sees {seen:,} of the {size:,} {example_name}s, spread evenly "
        "over the data set"
    )
