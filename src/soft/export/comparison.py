"""What an exported file has to pass: the logits of the model, before the file gets its name."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from soft.errors import SettingError
from soft.writing import explain_full_disk

MAX_ERROR = 1e-4  # relative to the largest logit; the error of float32 rounding is a hundredth of this


def largest_difference(
    model: nn.Module, run: Callable[[Tensor], Tensor], img_size: tuple[int, int], batches: tuple[int, ...]
) -> float:
    """Return the largest difference between the logits of `model` and of `run`, relative to the largest logit.

    Args:
        model: in evaluation mode, on the CPU.
        run: the exported program, images (B, in_chans, H, W) -> logits.
        img_size: height and width of the images, which are noise.
        batches: the values of B.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for batch in batches:
        images = torch.randn(batch, model.in_chans, *img_size, generator=generator)
        with torch.no_grad():
            ours, theirs = model(images), run(images).float()
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max()))
    return worst


def check_difference(name: str, difference: float, limit: float = MAX_ERROR) -> None:
    """Refuse a file whose logits differ by more than `limit`, or are not finite.

    Args:
        name: of the file.
        difference: as from `largest_difference`.
    """
    if not difference < limit:
        raise SettingError(
            f"{name} was not written: its logits differ from the model's by {difference:.1e} of the largest one, and "
            f"{limit:.0e} is the limit."
        )


@contextmanager
def place_for(path: Path) -> Iterator[Path]:
    """Yield a path for a file that becomes `path` at the end of the block, and is deleted after an error in it."""
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export_") as folder:
            file = Path(folder) / path.name
            yield file
            os.replace(file, path)
