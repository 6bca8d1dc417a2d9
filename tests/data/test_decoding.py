"""Whatever Pillow can read correctly is read, as RGB; everything else is an error that names the file."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from soft.data.bad_images import UnreadableImageError
from soft.data.decoding import decode, open_image


def read(file, **options) -> np.ndarray:
    """Pixels as (H, W, 3); any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(file) as image:
            return decode(image, **options).permute(1, 2, 0).numpy()


def pillow(file) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(file).convert("RGB"))


@pytest.fixture
def photograph(photographs) -> Image.Image:
    return photographs[1].resize((161, 107))


JPEGS = {
    "baseline": dict(),
    "progressive": dict(progressive=True),
    "4:4:4": dict(subsampling=0),
    "4:2:2": dict(subsampling=1),
    "restart markers": dict(restart_marker_rows=1),
    "grey": dict(mode="L"),
    "RGB": dict(keep_rgb=True),
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("box", [None, (0, 0, 161, 107), (3, 10, 90, 107)], ids=["whole", "all of it", "part"])
def test_a_jpeg_has_pillow_s_values(photograph, tmp_path, options, box):
    options = dict(options)
    file = tmp_path / "file.JPEG"
    photograph.convert(options.pop("mode", "RGB")).save(file, quality=85, **options)
    left, top, right, bottom = box or (0, 0, 161, 107)

    assert np.array_equal(read(file, box=box), pillow(file)[top:bottom, left:right])


@pytest.mark.parametrize("name", ["file.png", "file.JPEG", "no_suffix"])
def test_the_content_counts_and_not_the_name(photograph, tmp_path, name):
    photograph.save(tmp_path / name, "PNG")

    assert np.array_equal(read(tmp_path / name), np.asarray(photograph))


@pytest.mark.parametrize("box", [None, (3, 10, 90, 107)], ids=["whole", "part"])
@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_cmyk_keeps_its_colours(photograph, tmp_path, file_format, box):
    file = tmp_path / "file"
    photograph.convert("CMYK").save(file, file_format)  # Pillow marks such a JPEG as Adobe's, which is inverted
    assert file_format == "TIFF" or Image.open(file).info["adobe_transform"] is not None
    left, top, right, bottom = box or (0, 0, 161, 107)

    difference = read(file, box=box).astype(float) - np.asarray(photograph)[top:bottom, left:right]
    assert abs(difference).mean() < 8, "but for JPEG's loss"
    assert np.array_equal(read(file, box=box), pillow(file)[top:bottom, left:right])


def grey_ramp() -> np.ndarray:
    """(2, 256) numbers of 16 bits whose upper bytes are 0 to 255."""
    return np.stack([np.arange(256) * 256, np.arange(256) * 256 + 255]).astype(np.uint16)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bits_become_8(tmp_path, file_format):
    file = tmp_path / "file"
    Image.fromarray(grey_ramp()).save(file, file_format)

    assert np.array_equal(read(file), np.stack([np.tile(np.arange(256), (2, 1))] * 3, axis=-1))


def png_of(header: bytes, rows: bytes) -> bytes:
    """A PNG file of kinds that Pillow does not write."""
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        PngImagePlugin.putchunk(file, kind, content)
    return file.getvalue()


def test_16_bits_of_three_colours_become_8(tmp_path):
    colours = np.stack([grey_ramp(), grey_ramp()[:, ::-1], grey_ramp()], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    file = tmp_path / "file.png"
    file.write_bytes(png_of(struct.pack(">IIBBBBB", 256, 2, 16, 2, 0, 0, 0), rows))

    assert np.array_equal(read(file), colours >> 8)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, file_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    file = tmp_path / "file"
    frames[0].save(file, file_format, save_all=True, append_images=frames[1:], duration=100)
    assert Image.open(file).n_frames == 3

    assert abs(read(file).astype(int) - (200, 0, 0)).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_colour_modes(photograph, tmp_path, mode):
    file = tmp_path / "file.png"
    options = dict(transparency=b"\x00\x80") if mode == "P" else {}  # Pillow warns of transparent palettes
    photograph.convert(mode).save(file, **options)

    assert np.array_equal(read(file), pillow(file))


def test_broken_exif_data_gives_no_warning(photograph, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description long enough to lie outside its entry"
    file = tmp_path / "broken.JPEG"
    photograph.save(file, exif=exif.tobytes()[:-30])

    with warnings.catch_warnings(record=True) as unfiltered:
        warnings.simplefilter("always")
        Image.open(file).getexif().get(0x010E)
    assert unfiltered, "the file does provoke Pillow's warning"

    read(file)


def test_bytes_after_the_image_do_not_matter(photograph, tmp_path):
    file = tmp_path / "file.JPEG"
    photograph.save(file)
    expected = pillow(file)
    file.write_bytes(file.read_bytes() + b"more" * 100)

    assert np.array_equal(read(file), expected)


def jpeg(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG")
    return content.getvalue()


def bomb() -> bytes:
    """A PNG that says it has 30000 x 30000 pixels."""
    return png_of(struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0), b"\0" * 1000)


BAD = {
    "empty": (lambda image: b"", "no image that Pillow knows"),
    "text": (lambda image: b"<html>404 Not Found</html>", "no image that Pillow knows"),
    "half": (lambda image: jpeg(image)[: len(jpeg(image)) // 2], "truncated"),
    "without its end": (lambda image: jpeg(image)[:-200], "truncated"),
    "header only": (lambda image: jpeg(image)[:300], "(?i)truncated"),
    "overwritten": (lambda image: jpeg(image)[:1500] + b"\xff\x3f" * 200 + jpeg(image)[1900:], "broken data stream"),
    "bomb": (lambda image: bomb(), "900000000 pixels"),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("options", [{}, dict(box=(5, 5, 60, 60), target=(10, 10))], ids=["whole", "reduced"])
def test_an_unreadable_file_is_named(photograph, tmp_path, content, reason, options):
    file = tmp_path / "file.jpg"
    file.write_bytes(content(photograph))

    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read(file, **options)
    assert caught.value.name == str(file)
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize("values", [np.float32([[0.1, 0.9]]), np.int32([[0, 2**20]]), np.int32([[0, -1]])], ids=str)
def test_values_without_a_known_range_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "file.tif")

    with pytest.raises(UnreadableImageError, match=r"range|16 bits"):
        read(tmp_path / "file.tif")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableImageError, match="No such file"):
        open_image(tmp_path / "gone.jpg")


def test_an_open_file_has_the_name_that_is_given():
    with pytest.raises(UnreadableImageError) as caught:
        open_image(io.BytesIO(b"nothing"), "shard.tar, byte 512")
    assert caught.value.name == "shard.tar, byte 512"


def test_an_image_in_memory_is_cropped(photograph):
    part = decode(photograph, (3, 10, 90, 107)).permute(1, 2, 0).numpy()

    assert np.array_equal(part, np.asarray(photograph)[10:107, 3:90])
