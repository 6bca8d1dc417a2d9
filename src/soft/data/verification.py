"""Reading every image once, before a run pays for it."""

from collections.abc import Iterator, Sized

from torch.utils.data import DataLoader, Dataset

from soft.data.batches import TransformedImages, collate
from soft.data.transforms import EvalTransform


def find_bad_images(images: Dataset | Sized, num_workers: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Decode all images in `num_workers` processes, and yield (images done, what is wrong with the bad ones by name).

    Args:
        images: one of `soft.data.image_sets.ImageSets`.
    """
    tiny = EvalTransform(img_size=8, crop_pct=1.0, interpolation="bilinear")
    readable = TransformedImages(images, tiny, seed=0)
    for batch in DataLoader(readable, batch_size=64, num_workers=num_workers, collate_fn=collate):
        yield len(batch.labels) + len(batch.bad), batch.bad
