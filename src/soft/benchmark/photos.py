"""JPEG files like ImageNet's, generated from noise."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 2


def write_photos(folder: Path, images: int, size: tuple[int, int], quality: int) -> int:
    """Write `images` JPEG files into `folder`/train and one per class into `folder`/val; return their mean bytes.

    The images are noise whose amplitude falls with frequency as that of photographs does, strong in brightness and weak
    in colour, since a decoder's work depends on the amount of detail.

    Args:
        size: width and height in pixels.
        quality: JPEG quality, from 1 to 95.
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
    """Draw one image for `write_photos`, of `size` (width, height); equal seeds give equal images."""
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
