"""Starts a training from given weights, which are fitted to the model; the classifier's rows are found by name."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from soft.data.classes import are_numbers, imagenet_wnids, places_by_name, unnamed_order
from soft.errors import first_few
from soft.models.checkpoints import fit_weights, read_weights
from soft.models.factory import describe_model, regroup
from soft.models.metadata import Metadata, read_metadata
from soft.runs.folder import RESULT, as_typed, from_here, run_folder

_HEAD = "head."


def warm_start(
    model: nn.Module,
    path: str | Path,
    class_names: Sequence[str] | None = None,
    dataset: str | None = None,
    new_head: bool = False,
) -> str:
    """Load weights into a SOFT model that is about to be trained; return a sentence about what is loaded and new.

    Position embeddings and landmark windows are resized to the model. Rows of the classifier come from the file for
    classes that the file has by the same name; all other rows stay as they are.

    Args:
        model: the model to fill, with a new classifier.
        path: as for `soft.models.checkpoints.read_weights`; the moving average is taken where there is one.
        class_names: the classifier's classes, in order; None if they are not known, and the classifier stays new.
        dataset: name of the data set to train on.
        new_head: leave the classifier as it is, whatever its classes are.

    Raises:
        SettingError: the file cannot be read, or does not fit the model.
    """
    path = Path(path).expanduser()
    weights, metadata = read_weights(path), read_metadata(path)
    own = {key: value for key, value in model.state_dict().items() if key.startswith(_HEAD)}
    rows, about = None, "new, because finetune.new_head=true says so"
    if not new_head:
        theirs = _file_names(metadata, len(weights.get(f"{_HEAD}weight", ())), class_names, dataset)
        rows, about = _match_rows(theirs, metadata, class_names, dataset)
    head = own if rows is None else {key: _take(weights[key], rows, own[key]) for key in own}
    body = {key: value for key, value in weights.items() if not key.startswith(_HEAD)}
    fitted, resized = fit_weights({**body, **head}, model, img_size=metadata.img_size if metadata else None)
    model.load_state_dict(fitted)
    origin = f", trained on {metadata.dataset}" if metadata and metadata.dataset else ""
    text = f"Warm start from the weights in {from_here(path)}{origin}: the classifier is {about}."
    if resized:
        text += f" Resized to this model: {resized}."
    return text + _about_attention(model, metadata) + _about_run(path)


def _file_names(
    metadata: Metadata | None, outputs: int, class_names: Sequence[str] | None, dataset: str | None
) -> Sequence[str] | None:
    """Return the names of a file's classes, as many as it has outputs; None where they are not known."""
    names = imagenet_wnids() if metadata is None else metadata.class_names
    if names is None and class_names and metadata.origin == "recipe" and metadata.dataset == dataset:
        names = unnamed_order(dataset, class_names)
    return names if names is not None and len(names) == outputs else None


def _match_rows(
    theirs: Sequence[str] | None, metadata: Metadata | None, ours: Sequence[str] | None, dataset: str | None
) -> tuple[list[int | None] | None, str]:
    """Return the row in the file of each of our classes, None for a new classifier, and what to say about it."""
    if theirs is None or ours is None:
        return None, "new, because the file does not name its classes"
    same_data = metadata is not None and metadata.dataset == dataset
    rows = places_by_name(theirs, ours)
    if (are_numbers(ours) and not same_data) or not any(row is not None for row in rows):
        return None, f"new, because its classes were {first_few(theirs)}"
    known = len(rows) - rows.count(None)
    if known < len(rows):
        return rows, f"new but for the {known} of {len(rows)} classes that the file has too"
    if rows == list(range(len(theirs))):
        return rows, "kept, because its classes are the same"
    return rows, f"made of the rows of the {known} classes by name, among the {len(theirs)} of the file"


def _take(source: Tensor, rows: Sequence[int | None], own: Tensor) -> Tensor:
    """Return `own`, weights (K, C) or biases (K,) of the classifier, with the rows that are found in `source`."""
    known = [place for place, row in enumerate(rows) if row is not None]
    if source.shape[1:] != own.shape[1:]:
        return source  # the shape is another model's, which the check of all weights will refuse
    taken = own.clone()
    taken[torch.tensor(known)] = source[torch.tensor([rows[place] for place in known])].to(own)
    return taken


def _about_attention(model: nn.Module, metadata: Metadata | None) -> str:
    """Return a sentence if the attention has the weights' shapes and is still not the one that they were trained in."""
    config = describe_model(model)
    if config is None or metadata is None or not metadata.model:
        return ""
    own, theirs = (regroup(each)["attention"] for each in (config, metadata.model))
    changed = [f"{key}={own[key]} (was {theirs[key]})" for key in theirs if key in own and own[key] != theirs[key]]
    return f" The attention is another one than in that training: {', '.join(changed)}." if changed else ""


def _about_run(path: Path) -> str:
    """Return a sentence on how to resume instead, if the weights are from a run that is not finished."""
    folder = run_folder(path.absolute())
    if folder is None or (folder / RESULT).exists():
        return ""
    return f" That run is not finished: {as_typed('resume', folder)} would go on with it instead."
