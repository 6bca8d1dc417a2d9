"""Reads every image of a data set once, before a run pays for what is wrong with one."""

from collections.abc import Iterator, Sized

from torch.utils.data import DataLoader, Dataset

from soft.data.batches import TransformedImages, collate
from soft.data.transforms import EvalTransform


def find_bad_images(images: Dataset | Sized, num_workers: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Decode all images in `num_workers` processes.

    Args:
        images: `train` or `val` of `soft.data.image_sets.ImageSets`.

    Yields:
        for each batch (number of its images, what is wrong with the bad ones among them by name).
    """
    tiny = EvalTransform(img_size=8, crop_pct=1.0, interpolation="bilinear")
    readable = TransformedImages(images, tiny, seed=0)
    for batch in DataLoader(readable, batch_size=64, num_workers=num_workers, collate_fn=collate):
        yield len(batch.labels) + len(batch.bad), batch.bad
