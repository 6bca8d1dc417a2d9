"""SOFT: Softmax-free Transformer with Linear Complexity.

Importing the package registers the models with timm: `timm.create_model("soft_tiny")` builds one, and
`soft.load_model(path)` reads a trained one from a file. What trains and draws is loaded when it is used, because it
needs the packages of the extra `train`.
"""

from importlib import import_module

from soft import models as models
from soft.models import load_model

_WHEN_USED = {
    "Augmentation": "soft.data.augmentation",
    "ImageDataModule": "soft.data.datamodule",
    "TaskDataModule": "soft.data.tasks.task_datamodule",
    "draw_attention_maps": "soft.studies.attention_maps",
    "evaluate": "soft.notebook",
    "fit": "soft.notebook",
    "predict": "soft.prediction.predictor",
}

__all__ = ["load_model", "models", *_WHEN_USED]


def __getattr__(name: str) -> object:
    if name not in _WHEN_USED:
        raise AttributeError(f"module 'soft' has no attribute {name!r}")
    return getattr(import_module(_WHEN_USED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHEN_USED})
