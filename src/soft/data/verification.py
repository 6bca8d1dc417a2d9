"""Reads every image of a data set once, before a run pays for what is wrong with one."""

from collections.abc import Iterator, Sized

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from soft.data.batches import TransformedImages, collate
from soft.data.decoding import is_turned
from soft.data.transforms import EvalTransform


class _Turned(Dataset):
    """Images with whether they are stored turned in place of their label."""

    def __init__(self, images: Dataset | Sized):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, _ = self.images[index]
        return image, int(is_turned(image))


def find_bad_images(images: Dataset | Sized, num_workers: int) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Decode all images in `num_workers` processes.

    Args:
        images: `train` or `val` of `soft.data.image_sets.ImageSets`.

    Yields:
        for each batch (number of its images, number of those that are stored turned
        (`soft.data.decoding.is_turned`), what is wrong with the bad ones among them by name).
    """
    tiny = EvalTransform(img_size=8, crop_pct=1.0, interpolation="bilinear")
    readable = TransformedImages(_Turned(images), tiny, seed=0)
    for batch in DataLoader(readable, batch_size=64, num_workers=num_workers, collate_fn=collate):
        yield len(batch.labels) + len(batch.bad), int(batch.labels.sum()), batch.bad
