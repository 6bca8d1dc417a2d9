"""A model of one block per stage, which is traced in a fraction of the time of a whole one."""

import timm
import torch

from soft.models import SoftTransformer
from soft.models.metadata import Metadata, attach_metadata

FACTS = Metadata(
    dataset="digits",
    class_names=("zero", "one", "two"),
    img_size=(32, 48),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.25),
    crop_pct=0.8,
    interpolation="bilinear",
)


def small_model(**options: object) -> SoftTransformer:
    """Return an untrained model of three classes, in evaluation mode, that carries FACTS."""
    torch.manual_seed(0)
    if "attention" not in options:
        options |= {"num_landmarks": 4, "newton_iters": 3}
    model = timm.create_model("soft_pico", num_classes=3, img_size=(32, 48), depths=(1, 1, 1, 1), **options)
    attach_metadata(model, FACTS)
    return model.eval()
