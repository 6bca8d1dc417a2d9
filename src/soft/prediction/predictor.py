"""Classifies images that nobody has labelled, prepared as the model's training prepared its own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from timm.data import resolve_model_data_config
from torch import nn

from soft.data.batches import Batch, TransformedImages, normalise
from soft.data.classes import imagenet_wnids
from soft.data.loading import create_loader, share_of_cores
from soft.data.picture_files import PictureFiles, find_pictures
from soft.data.preprocessing import PREPROCESSING, as_plain
from soft.data.sampling import EvalSampler
from soft.data.transforms import EvalTransform
from soft.data.workers import explained_worker_errors
from soft.errors import SettingError
from soft.hardware.float32 import multiply_float32_as
from soft.models.metadata import own_class_names
from soft.settings import check_whole

FEW = 256  # images that one process has read before others have started


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        file: the image's path.
        classes: names of the most probable classes, the first one first.
        probabilities: of these classes, from 0 to 1; those of all classes add up to 1.
    """

    file: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Predictions:
    """What a model says of some images.

    Attributes:
        images: one prediction for each image that could be read, in the order of the files.
        unreadable: what is wrong with each of the other files, by its path.
        preprocessing: how the images were prepared, see `soft.data.preprocessing.PREPROCESSING`.
        notes: sentences that a reader of the predictions has to know.
        pictures: the first images as the model saw them, uint8 (H, W, 3), as many as were asked for.
    """

    images: list[Prediction] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    preprocessing: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)


def predict(
    model: nn.Module,
    images: str | Path | Sequence[str | Path],
    top: int = 5,
    *,
    batch_size: int = 64,
    num_workers: int | None = None,
    device: str | torch.device | None = None,
    pictures: int = 0,
    progress: bool = False,
) -> Predictions:
    """Return the most probable classes of image files, in the words of the model's training.

    Preprocessing and class names are those that the model carries, which `soft.load_model` takes from its checkpoint.
    Photographs are read as they are stored, as those of data sets are; a note says if some are stored turned.

    Args:
        model: a classifier (B, 3, H, W) -> (B, num_classes) with timm's `pretrained_cfg`; left on `device`, in
            evaluation mode.
        images: a file, a folder or a pattern, or several, see `soft.data.picture_files.find_pictures`.
        top: number of classes for each image; all of them where the model has fewer.
        batch_size: images in one forward pass.
        num_workers: processes that read images; None for none with few images, else one per core, at most 8.
        device: where the model runs; None for where it is.
        pictures: number of images that are kept as pictures.
        progress: show a progress bar on a terminal.

    Raises:
        SettingError: an argument does not fit, the model reads no pictures, none of the images can be read, or the
            model's answers are not finite.
    """
    check_whole("top", top, low=1)
    check_whole("batch_size", batch_size, low=1)
    if num_workers is not None:
        check_whole("num_workers", num_workers, low=0)
    check_reads_pictures(model)
    paths, notes = find_pictures(images)
    names, note = class_names(model)
    config = resolve_model_data_config(model)
    facts = {"img_size": list(config["input_size"][1:]), **config}
    preprocessing = {name: as_plain(facts[name]) for name in PREPROCESSING}
    result = Predictions(preprocessing=preprocessing, notes=[*(f"{text}." for text in notes), *filter(None, [note])])
    transform = EvalTransform(facts["img_size"], facts["crop_pct"], facts["interpolation"])
    if num_workers is None:
        num_workers = 0 if len(paths) <= FEW else share_of_cores(1)
    files = TransformedImages(PictureFiles(paths), transform, seed=0)
    device = next(model.parameters()).device if device is None else torch.device(device)
    loader = create_loader(files, EvalSampler(len(paths)), batch_size, num_workers, device.type)
    model, turned = model.to(device).eval(), 0
    multiply_float32_as("ieee")
    with explained_worker_errors():
        for batch in _with_progress(loader, progress):
            result.unreadable.update(batch.bad)
            if not len(batch.labels):
                continue
            wanted = batch.images[: pictures - len(result.pictures)]
            result.pictures.extend(wanted.permute(0, 2, 3, 1).numpy().copy())
            likely = _classify(model, batch, config, device).topk(min(top, len(names)))
            answers = zip(batch.labels.tolist(), likely.values.tolist(), likely.indices.tolist(), strict=True)
            for number, probabilities, classes in answers:
                index = number % len(paths)
                turned += number >= len(paths)
                if not all(map(math.isfinite, probabilities)):
                    raise SettingError(f"The model's answer to {paths[index]} is not finite: its weights are damaged.")
                words = tuple(names[place] for place in classes)
                result.images.append(Prediction(paths[index], words, tuple(probabilities)))
    if not result.images:
        file, reason = next(iter(result.unreadable.items()))
        raise SettingError(f"None of the {len(paths)} images can be read, such as {file}: {reason}.")
    if turned:
        result.notes.append(
            f"Stored turned, with their orientation in EXIF data: {turned} of the images. They were read as stored, as "
            "data sets are; `exiftran -ai FILE` turns a JPEG itself."
        )
    return result


def check_reads_pictures(model: nn.Module) -> None:
    """Refuse a model whose inputs are not pictures, or not of the size for which they would be prepared."""
    if getattr(model, "embedding_kind", None) == "table":
        raise SettingError("This model reads token ids and no pictures; src/evaluate.py takes it to a task.")
    if getattr(model, "in_chans", 3) != 3:
        raise SettingError(f"This model reads inputs of {model.in_chans} channels, and pictures have three.")
    own, size = getattr(model, "img_size", None), tuple(model.pretrained_cfg["input_size"][1:])
    if own is not None and tuple(own) != size:
        raise SettingError(f"The model takes inputs of {own[0]}x{own[1]} alone; set img_size to {list(own)}.")


def class_names(model: nn.Module) -> tuple[list[str], str]:
    """Return a name for each of a model's classes, and a sentence if they are not the model's own words."""
    if names := own_class_names(model):
        return names, ""
    if model.num_classes == len(wnids := imagenet_wnids()):
        return wnids, "The model does not name its 1000 classes: they are taken to be ImageNet's."
    return [str(index) for index in range(model.num_classes)], "The model does not name its classes: they are numbered."


@torch.no_grad()
def _classify(model: nn.Module, batch: Batch, config: dict[str, object], device: torch.device) -> torch.Tensor:
    """Return probabilities (B, num_classes), float32, on the CPU."""
    images = normalise(batch.images.to(device, non_blocking=True), config["mean"], config["std"])
    return model(images.to(next(model.parameters()).dtype)).float().softmax(-1).cpu()


def _with_progress(batches: Iterable[Batch], shown: bool) -> Iterable[Batch]:
    console = Console(stderr=True)
    return track(batches, "predicting", console=console, transient=True, disable=not (shown and console.is_terminal))
