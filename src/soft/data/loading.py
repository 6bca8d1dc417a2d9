"""The loaders of one process: how many helpers they have, and where the first one begins."""

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Sampler

from soft.data.batches import TransformedImages, collate
from soft.data.workers import outlive_sigterm
from soft.hardware.devices import cores_per_process

MAX_WORKERS = 8


def create_loader(images: TransformedImages, sampler: Sampler, batch_size: int, num_workers: int) -> DataLoader:
    """Return a loader of `soft.data.batches.Batch`."""
    # A worker process limits itself to one PyTorch thread, so the workers do not fight over the cores.
    return DataLoader(
        images,
        batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=outlive_sigterm,
        pin_memory=torch.cuda.is_available(),
    )


def share_of_cores(devices: int) -> int:
    """Return the number of loader processes for one of so many devices of this machine."""
    return min(MAX_WORKERS, cores_per_process(devices))


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
