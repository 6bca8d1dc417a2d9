"""From an image file of any kind to RGB pixels: as many of them as are needed, decoded only once."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from soft.data.bad_images import UnreadableImageError

Box = tuple[int, int, int, int]

# Resizing needs more pixels than it leaves, to filter out what is too fine. If a JPEG is decoded to 1.5 times as many
# each way, the result differs from that of the whole image by two grey levels in the mean, as much as bilinear and
# bicubic resizing differ.
SPARE = 1.5


def open_image(file: str | Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Read the header of an image file, whose format its name need not tell; `decode` reads the rest.

    Args:
        file: path or open file. Closing the image closes a file that was opened here.
        name: what messages call it; None takes the path.

    Raises:
        UnreadableImageError: it is no image, or claims more than 179 million pixels.
    """
    name = str(file) if name is None else name
    with _unreadable(name):
        image = Image.open(file)
    image.filename = name
    return image


def is_turned(image: Image.Image) -> bool:
    """Return whether an image that `open_image` opened is stored turned, as its EXIF orientation says.

    `decode` ignores that, as the field does with ImageNet. Photographs of phones are often stored so.
    """
    # Pillow turns a TIFF by itself, and would decode a PNG to look for the orientation behind its pixels.
    if image.format not in ("JPEG", "MPO", "WEBP", "AVIF") and (image.format == "TIFF" or "exif" not in image.info):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # broken EXIF data in an image that can be read
        return False


def decode(image: Image.Image, box: Box | None = None, target: tuple[int, int] | None = None) -> Tensor:
    """Return RGB pixels, uint8 (3, H, W), of an image that `open_image` opened or of one in memory.

    The values are Pillow's, whatever reads them. Of an animation the first frame is taken, 16 bits a channel become 8,
    transparency is left out and EXIF orientation ignored (as the field does with ImageNet).

    Args:
        box: (left, top, right, bottom), the part that is wanted; None for all of it.
        target: (height, width) that the part will be resized to. A JPEG is then decoded at a half to an eighth of its
            size if that leaves SPARE times as many pixels each way, which takes less time and gives nearly the same.
            None keeps every pixel.

    Raises:
        UnreadableImageError: the file is damaged.
    """
    box = box or (0, 0, *image.size)
    if not getattr(image, "tile", None):  # in memory
        return _to_tensor(_crop(image, box))
    with _unreadable(image.filename):
        pixels = None
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            pixels = _decode_jpeg(image, box, target)
        return _to_tensor(_crop(image, box) if pixels is None else pixels)


def _decode_jpeg(image: Image.Image, box: Box, target: tuple[int, int] | None) -> np.ndarray | None:
    """Decode by libjpeg-turbo, in three quarters of Pillow's time; None if Pillow has to decide about the file."""
    (width, height), (left, top, right, bottom) = image.size, box
    min_height, min_width = height, width
    if target:
        min_height = math.ceil(SPARE * target[0] * height / (bottom - top))
        min_width = math.ceil(SPARE * target[1] * width / (right - left))
    image.fp.seek(0)
    try:
        # To decode at more than half the size would take longer than to decode at full size.
        pixels = simplejpeg.decode_jpeg(image.fp.read(), min_height=min_height, min_width=min_width, min_factor=2)
    except ValueError:
        return None
    rows = _scaled(top, bottom, len(pixels), height)
    columns = _scaled(left, right, pixels.shape[1], width)
    return np.ascontiguousarray(pixels[rows, columns])


def _scaled(start: int, stop: int, decoded: int, full: int) -> slice:
    """Return where an interval lies along a side of `full` pixels that was decoded to `decoded`."""
    length = round((stop - start) * decoded / full)
    start = min(round(start * decoded / full), decoded - length)
    return slice(start, start + length)


def _crop(image: Image.Image, box: Box) -> np.ndarray:
    """Return the box as RGB, (H, W, 3)."""
    part = image if box == (0, 0, *image.size) else image.crop(box)
    if part.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if part.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255 instead of scaling them
        values = np.asarray(part)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("its values do not fit into 16 bits")
        part = Image.fromarray((values >> 8).astype(np.uint8))
    return np.array(part if part.mode == "RGB" else part.convert("RGB"))


def _to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """Take any error in the block for the file's fault, since Pillow raises ten kinds of error at damaged files."""
    try:
        with warnings.catch_warnings():
            # ImageNet holds images with broken EXIF data: one warning each, in every worker and every epoch.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError as error:
        raise UnreadableImageError(name, "its content is no image that Pillow knows") from error
    except Exception as error:
        raise UnreadableImageError(name, " ".join(str(error).split()) or type(error).__name__) from error
