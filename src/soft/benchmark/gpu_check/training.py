"""The loader's speed, and a real training that is stopped and goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from soft.benchmark.gpu_check.measured import Check, Measured
from soft.benchmark.photos import write_photos
from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule

PATIENCE = 120  # seconds for a training to take its first step, and for it to end when it has been told to stop


def measure_loader(check: Check) -> Iterator[Measured]:
    """Yield the images per second that the loader prepares, with a worker for each core of this machine, at most 16."""
    root, images, batch = check.folder / "photos", *((64, 16) if check.small else (2048, 128))
    write_photos(root, images, (500, 375), 90)
    augment = Augmentation(crop_scale=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3), hflip=0.5)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = 0 if check.small else min(16, cores)
    data = ImageDataModule(
        "imagenet", root=root, img_size=224, num_classes=None, batch_size=batch, num_workers=workers, augment=augment
    )
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    start, seen = None, 0
    for epoch in range(1 if check.small else 3):
        loader.sampler.set_epoch(epoch)
        for group in loader:
            if start is None:  # the start of the workers does not count
                start = time.perf_counter()
            else:
                seen += len(group.labels)
    yield Measured(f"loader, {workers} workers", seen / (time.perf_counter() - start), "images/s")


def measure_training(check: Check) -> Iterator[Measured]:
    """Yield whether a training ends on SIGTERM with a checkpoint, and goes on from it to its end."""
    folder = check.folder / "training"
    model = ["model=soft_pico", "data.train_images=1024", "trainer.log_every_n_steps=1"]
    if not check.small:
        model = ["model=soft_tiny", "data.img_size=224", "data.batch_size=64", "data.train_images=4096"]
    command = [
        *(sys.executable, str(check.source / "src" / "train.py"), "data=fake", "trainer=auto", "logger=csv"),
        *(f"hydra.run.dir={folder}", f"trainer.accelerator={'cuda' if check.on_gpu else 'cpu'}", "resume=auto"),
        *("data.val_images=64", "schedule.epochs=2", *model),
    ]
    if check.on_gpu:
        command.append("trainer.precision=bf16-mixed")
    with (check.folder / "training.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=check.folder)
        began = time.monotonic()
        while process.poll() is None and not _has_stepped(folder) and time.monotonic() - began < PATIENCE:
            time.sleep(0.2)
        yield Measured("training begins after", time.monotonic() - began, "s")
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        yield Measured("exit code after SIGTERM", process.returncode, minimum=143, maximum=143)
        yield Measured("seconds from SIGTERM to the end", time.monotonic() - told, "s")
        there = (folder / "checkpoints" / "last.ckpt").is_file()
        yield Measured("checkpoint after SIGTERM", int(there), "files", minimum=1)
        went_on = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=check.folder, timeout=4 * PATIENCE)
    yield Measured("exit code of the training that went on", went_on.returncode, minimum=0, maximum=0)
    last = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    yield Measured("steps at its end", last["global_step"], "steps", minimum=1)


def _has_stepped(folder: Path) -> bool:
    """Return whether the training has logged a step."""
    metrics = folder / "metrics.csv"
    return metrics.is_file() and len(metrics.read_text().splitlines()) > 1
