"""Models without weights, built once: shapes only, so that the largest costs nothing."""

import functools

import timm
import torch

from soft.models import SoftTransformer

# The pyramid's names; other modules of the library register models of their own.
NAMES = timm.list_models("soft_*", module="variants")
SHALLOW = {"depths": (1, 1, 2, 1), "newton_iters": 1}  # for shapes of outputs, which follow from neither


@functools.cache
def shell(name: str, **options: object) -> SoftTransformer:
    """A model on the meta device in evaluation mode, shared by all tests: copy it to change it."""
    with torch.device("meta"):
        return timm.create_model(name, **options).eval()
