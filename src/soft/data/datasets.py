"""The data sets by name.

A builder takes the data set's own options and two that all have: `train` says whether the training images are read,
and `split` names the images to validate and evaluate on, None for the validation images. What is not given to
`soft.data.datamodule.ImageDataModule` is taken from `soft.data.facts`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from soft.data.facts import facts
from soft.data.hugging_face import hugging_face
from soft.data.image_folder import imagenet
from soft.data.image_sets import ImageSets
from soft.data.in_memory import cifar10, digits, download_cifar10, download_fashion_mnist, fake, fashion_mnist
from soft.data.shards import copy_remote_shards, imagenet_shards
from soft.errors import SettingError, first_few

BUILDERS: dict[str, Callable[..., ImageSets]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "imagenet_wds": imagenet_shards,
    "hf": hugging_face,
    "fake": fake,
}

# Data sets that are downloaded into `root`.
DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "fashion_mnist": download_fashion_mnist,
    "cifar10": download_cifar10,
}

# Data sets that may lie on another machine; each function copies one, given its options, `train` and `split`.
COPIES: dict[str, Callable[..., None]] = {"imagenet_wds": copy_remote_shards}


def complete_options(
    dataset: str, options: Mapping[str, object], num_classes: int | None, img_size: int | list[int]
) -> dict[str, object]:
    """Return the keywords of a builder, except `train` and `split`: what is given, and what goes without saying.

    Args:
        options: what is given; a `root` of None is left out.
        num_classes, img_size: what images without a file have unless the options say otherwise.

    Raises:
        SettingError: an option is missing, or the builder does not know it.
    """
    parameters = inspect.signature(BUILDERS[dataset]).parameters
    usual = {**facts(dataset), "classes": num_classes, "source_size": img_size}
    given = {name: value for name, value in options.items() if name != "root" or value is not None}
    complete = {name: usual[name] for name in parameters if name in usual} | given
    if "root" in complete:
        root = complete["root"]
        complete["root"] = str(root) if dataset in COPIES and "://" in str(root) else Path(root).expanduser()
    check_options(dataset, BUILDERS[dataset], complete)
    return complete


def check_options(dataset: str, builder: Callable[..., object], options: Mapping[str, object]) -> None:
    """Refuse options that the builder of a data set does not take, and the lack of one that it needs."""
    parameters = inspect.signature(builder).parameters
    if unknown := [f"`data.{name}`" for name in options if name not in parameters]:
        raise SettingError(f"`data.dataset`={dataset} does not take {first_few(unknown)}.")
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [f"`data.{name}`" for name in needed if name not in options]:
        raise SettingError(f"`data.dataset`={dataset} needs {first_few(missing)}.")


def fetch(dataset: str, options: Mapping[str, object], train: bool, split: str | None) -> None:
    """Fetch what a builder with these options reads, if it can be fetched and is not there."""
    if dataset in DOWNLOADS:
        with _one_at_a_time(options["root"]):
            DOWNLOADS[dataset](options["root"])
    if dataset in COPIES:
        COPIES[dataset](**options, train=train, split=split)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let one process at a time into the block, also where torchrun or SLURM started several that all find no data."""
    lock = FileLock(root / ".download.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # a folder to read from, or a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
