"""A folder of JPEG files like ImageNet's, made on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 2


def write_photos(folder: Path, images: int, size: tuple[int, int], quality: int) -> int:
    """Fills `folder`/train and `folder`/val with `images` JPEG files each, in two classes; returns their mean bytes.

    Noise whose amplitude falls with frequency as photographs' does, strong in brightness and weak in colour: what a
    decoder does depends on how much detail there is.

    Args:
        size: width and height in pixels.
        quality: of the JPEG compression, from 1 to 95.
    """
    paths = []
    for split, images_here in (("train", images), ("val", CLASSES)):
        for number in range(images_here):
            path = folder / split / f"class{number % CLASSES}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(number, size).save(path, quality=quality)
            paths.append(path)
    return sum(path.stat().st_size for path in paths) // len(paths)


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """One such image of `size` (width, height); the same for the same seed."""
    random = np.random.default_rng(seed)
    width, height = size
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(vertical, horizontal), 1 / max(size))
    white = random.standard_normal((3, height, width))
    planes = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(height, width))
    planes *= np.array([55, 12, 12])[:, None, None] / planes.std(axis=(1, 2), keepdims=True)
    planes += np.array([115, 128, 128])[:, None, None]
    channels = [Image.fromarray(plane) for plane in planes.clip(0, 255).astype(np.uint8)]
    return Image.merge("YCbCr", channels).convert("RGB")
