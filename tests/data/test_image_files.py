"""Which files are images: what Pillow reads of the field's formats, and nothing that systems leave behind."""

import pytest
from PIL import Image, features

from soft.data.decoding import decode, open_image
from soft.data.image_files import EXTENSIONS, count_extensions, is_hidden, is_image, left_out


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("a/b.png", False),
        ("./a/b.png", False),
        ("../b.png", False),
        ("a.b/c.d.png", False),
        ("._b.png", True),
        ("a/._b.png", True),
        ("a/.ipynb_checkpoints/b.png", True),
        (".git", True),
        ("__MACOSX/a/b.png", True),
        ("a/Thumbs.db", True),
        ("a/.DS_Store", True),
        ("a/desktop.ini", True),
    ],
)
def test_hidden_files(path, hidden):
    assert is_hidden(path) == hidden


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_every_extension_is_read(tmp_path, extension):
    file = tmp_path / f"a{extension.upper()}"
    kind = {".jpe": "JPEG", ".jfif": "JPEG"}.get(extension)
    Image.new("RGB", (4, 3), (200, 100, 50)).save(file, kind)

    assert is_image(str(file))
    with open_image(file) as image:
        assert decode(image).shape == (3, 3, 4)


def test_the_usual_formats_are_there():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"} <= set(EXTENSIONS)
    assert (".avif" in EXTENSIONS) == features.check("avif")
    assert not any(map(is_image, ("a.heic", "a.txt", "jpg", "a")))


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    with open_image(tmp_path / "a.gif") as image:
        assert decode(image)[:, 0, 0].tolist() == [255, 0, 0]


def test_what_is_left_out_is_counted_by_extension():
    counts = count_extensions(["x/a.HEIC", "b.heic", "README", "c.tar.gz"])

    assert left_out(counts, "files in x") == [
        "files in x that are left out, not being read as images: 1 without an extension, 1 .gz, 2 .heic"
    ]
    assert left_out(count_extensions([]), "files in x") == []
