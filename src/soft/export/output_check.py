"""The check that an exported file has to pass before it gets its name: its logits are those of the model."""

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


def example_inputs(
    model: nn.Module, batch: int, img_size: tuple[int, int], integers: bool = False, generator=None
) -> Tensor:
    """Return noise that the model takes, (batch, in_chans, H, W).

    Args:
        model: with `in_chans`, and `vocabulary` if it takes integers.
        img_size: height and width.
        integers: token ids or grey values below `model.vocabulary`, int64, in place of float32 values.
        generator: draws the noise; None for PyTorch's global one.
    """
    shape = (batch, model.in_chans, *img_size)
    if integers:
        return torch.randint(model.vocabulary, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def largest_difference(
    model: nn.Module,
    run: Callable[[Tensor], Tensor],
    img_size: tuple[int, int],
    batches: tuple[int, ...],
    integers: bool = False,
) -> float:
    """Return the largest difference between the logits of `model` and of `run`, relative to the largest logit.

    Args:
        model: in evaluation mode, on the CPU.
        run: the exported program, from the model's inputs to logits.
        batches: batch sizes to compare, one after the other.
        img_size, integers: as for `example_inputs`.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for batch in batches:
        inputs = example_inputs(model, batch, img_size, integers, generator)
        with torch.no_grad():
            ours, theirs = model(inputs), run(inputs).float()
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max()))
    return worst


def check_difference(name: str, difference: float, limit: float = MAX_ERROR) -> None:
    """Refuse a file whose logits differ by more than `limit`, or are not finite.

    Args:
        name: of the file.
        difference: as from `largest_difference`.

    Raises:
        SettingError: the difference is too large, or not a number.
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
