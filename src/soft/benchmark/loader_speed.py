"""Images per second of the training loader, compared with timm's loader at the same settings."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from timm.data import FastCollateMixup, ImageDataset, create_loader
from torch import Tensor

from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import interleave, ratio
from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule
from soft.data.mixing import Mixup
from soft.data.transforms import allow_zero_bits

Batches = Iterator[tuple[Tensor, Tensor]]
TARGETS = {"light": 1.3, "paper": 1.0}


def measure_loaders(
    reporter: Reporter, device: torch.device, modules: Mapping[str, ImageDataModule], root: Path, rounds: int
) -> None:
    """Time each data module in one process and one thread, from files to a batch that a network takes.

    A batch is done when it is float, normalised, mixed where the recipe mixes, and on `device`.

    Args:
        modules: data modules without worker processes, by the name of their augmentation.
        root: the folder that they read, with train/ and val/ in it.
        rounds: epochs of each loader.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for name, datamodule in modules.items():
        reporter.step(f"loader: augment={name}")
        datamodule.setup("fit")
        augment = datamodule.augment
        loaders = {"ours": our_batches(datamodule, device), "timm": timm_batches(datamodule, root, device)}
        for loader, batches in loaders.items():
            check_batch(loader, next(batches), datamodule, mixed=bool(augment.mixup or augment.cutmix))
        # timm's loader works a batch ahead, so only over a whole epoch does it yield as many batches as it makes.
        count = datamodule.steps_per_epoch
        epochs = {who: partial(_take, batches, count) for who, batches in loaders.items()}
        times = interleave(epochs, rounds, device)
        rows.append(
            {"augment": name, "batch_size": datamodule.batch_size}
            | {f"{who}_images_per_s": count * datamodule.batch_size / median(times[who]) for who in loaders}
            | {"speedup": ratio(times["timm"], times["ours"])}
        )
        if name in TARGETS:
            reporter.target(f"loader, augment={name}: times timm's", rows[-1]["speedup"], minimum=TARGETS[name])
    torch.set_num_threads(threads)
    reporter.table("loader", "Training loaders: images per second of one core", rows)


def our_batches(datamodule: ImageDataModule, device: torch.device) -> Batches:
    """Yield training batches without end, as a training step gets them after mixing."""
    augment = datamodule.augment
    mixup = None
    if augment.mixup or augment.cutmix:
        mixup = Mixup(**_mixing(augment, datamodule.num_classes))
    loader = datamodule.train_dataloader()
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            images, labels = datamodule.on_after_batch_transfer(
                datamodule.transfer_batch_to_device(batch, device, 0), 0
            )
            yield mixup(images, labels) if mixup else (images, labels)
        epoch += 1


def timm_batches(datamodule: ImageDataModule, root: Path, device: torch.device) -> Batches:
    """Yield training batches of timm's loader without end.

    It is set up as in timm's training script, with normalisation and erasing on the device.
    """
    augment = datamodule.augment
    size = datamodule.img_size
    collate = None
    if augment.mixup or augment.cutmix:
        collate = FastCollateMixup(**_mixing(augment, datamodule.num_classes))
    dataset = ImageDataset(str(root / "train"))
    loader = create_loader(
        dataset,
        (3, *((size, size) if isinstance(size, int) else size)),
        datamodule.batch_size,
        is_training=True,
        scale=augment.crop_scale,
        ratio=augment.crop_ratio,
        hflip=augment.hflip,
        color_jitter=augment.color_jitter,
        auto_augment=augment.rand_augment,
        re_prob=augment.erase_prob,
        re_mode="pixel",
        interpolation=augment.interpolation,
        mean=datamodule.mean,
        std=datamodule.std,
        num_workers=0,
        persistent_workers=False,
        collate_fn=collate,
        device=device,
    )
    allow_zero_bits(dataset.transform.transforms)
    while True:
        yield from loader


def _take(batches: Batches, count: int) -> None:
    for _ in islice(batches, count):
        pass


def check_batch(loader: str, batch: tuple[Tensor, Tensor], datamodule: ImageDataModule, mixed: bool) -> None:
    """Assert that a loader did all the work that is timed."""
    images, targets = batch
    size = datamodule.img_size
    height, width = (size, size) if isinstance(size, int) else size
    assert images.shape == (datamodule.batch_size, 3, height, width), (loader, images.shape)
    assert images.dtype == torch.float32, (loader, images.dtype)
    assert images.min() < -0.5, (loader, images.min())
    assert targets.is_floating_point() == mixed, (loader, targets.dtype)


def _mixing(augment: Augmentation, num_classes: int) -> dict[str, object]:
    return {
        "mixup_alpha": augment.mixup,
        "cutmix_alpha": augment.cutmix,
        "prob": augment.mixup_prob,
        "switch_prob": augment.mixup_switch_prob,
        "label_smoothing": augment.label_smoothing,
        "num_classes": num_classes,
    }
