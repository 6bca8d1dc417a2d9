"""How often the host waits for the device in a training step, and where."""

import linecache
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from soft.benchmark.gpu_check.measured import Check, Measured
from soft.benchmark.synchronisations import Synchronisations
from soft.data.datamodule import ImageDataModule
from soft.notebook import fit

STEPS = (2, 6)  # waits are counted from the first of these optimiser steps up to the second, which is not watched


class Watch(Callback):
    """Callback that counts the waits of the steps between `STEPS` by place, and then stops the training."""

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._context = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.global_step == 0 and self._context is None:
            self._context = _watched(pl_module.device, self.places)
            self._context.__enter__()
        elif trainer.global_step == STEPS[0] and batch_idx % trainer.accumulate_grad_batches == 0:
            self.places.clear()
        elif trainer.global_step == STEPS[1] and self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None
            trainer.should_stop = True


@contextmanager
def _watched(device: torch.device, places: Counter[str]) -> Iterator[None]:
    """Count waits in `places`: as PyTorch warns of them on a GPU, and as `Synchronisations` finds them elsewhere."""
    if device.type != "cuda":
        with Synchronisations() as found:
            found.places = places
            yield
        return

    def note(message: object, category: object, filename: str, lineno: int, *_: object) -> None:
        if "synchroniz" in str(message):
            code = linecache.getline(filename, lineno).strip()
            places[f"{'/'.join(filename.split('/')[-3:])}:{lineno} {code}"] += 1

    before, warnings.showwarning = warnings.showwarning, note
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
        warnings.showwarning = before


def measure_waits(check: Check) -> Iterator[Measured]:
    """Yield the number of waits in a step in float32 and bfloat16, with accumulation, and their places."""
    size, batch, images = (32, 8, 64) if check.small else (224, 64, 512)
    for precision in ("32-true", "bf16-mixed"):
        for passes in (1, 2):
            data = ImageDataModule("fake", img_size=size, batch_size=batch, train_images=images, val_images=batch)
            options = {"num_landmarks": 4} if check.small else {}
            name = "soft_pico" if check.small else "soft_tiny"
            model = timm.create_model(name, num_classes=data.num_classes or 10, img_size=size, **options)
            watch = Watch()
            fit(
                model,
                data,
                folder=check.folder / f"waits_{precision}_{passes}",
                accelerator=check.device.type,
                precision=precision,
                max_batch_per_device=batch // passes,
                callbacks=[watch],
                trainer_options={"limit_val_batches": 1, "enable_model_summary": False},
            )
            what = f"waits in a step, {precision}, {passes} pass{'es' if passes > 1 else ''}"
            places = "; ".join(f"{count} x {place}" for place, count in watch.places.most_common(4))
            yield Measured(what, sum(watch.places.values()) / (STEPS[1] - STEPS[0]), maximum=1, note=places)
