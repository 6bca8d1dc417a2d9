"""What an export says its model was trained on, from the checkpoint's metadata and recipe."""

import re
from collections.abc import Mapping
from pathlib import Path

from soft.data.classes import imagenet_wnids
from soft.models.metadata import Metadata

_LAYOUTS = {"imagenet": "class folders", "imagenet_wds": "shards"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def training_data(
    metadata: Metadata | None, recipe: Mapping[str, object] | None, num_classes: int
) -> tuple[str | None, str | None]:
    """Return words for the data, and their name for the tag `datasets` of a model card; None for what is not known.

    `data=imagenet` reads any class folders, so only ImageNet's 1,000 classes make them ImageNet.
    """
    dataset, names = (metadata.dataset, metadata.class_names) if metadata else (None, None)
    if dataset in _LAYOUTS:
        wnids = imagenet_wnids()
        if set(names) == set(wnids) if names else num_classes == len(wnids):
            return "imagenet", "imagenet"
        return f"own images in {_LAYOUTS[dataset]} ({num_classes} classes)", None
    if dataset == "hf":
        path = str(((recipe or {}).get("data") or {}).get("path") or "")
        if _HUB_NAME.fullmatch(path) and not Path(path).exists():
            return path, path
        # A card goes to others, so it has the name of a folder without its place on this machine.
        return f"own images in the Hugging Face format ({Path(path).name or 'name not recorded'})", None
    return dataset, dataset
