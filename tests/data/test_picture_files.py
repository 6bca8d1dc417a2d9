"""Which pictures the words of a user mean."""

import pytest
from PIL import ExifTags, Image

from soft.data.decoding import decode, open_upright
from soft.data.picture_files import PictureFiles, find_pictures
from soft.errors import SettingError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """photos/ with pictures, a subfolder, hidden files and a text, in the current folder."""
    for name in ("b.png", "a.JPG", "sub/c.webp", "sub/.hidden.png", ".cache/d.png", "odd[1].png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    (tmp_path / "photos" / "read.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("images", "found", "notes"),
    [
        ("photos/b.png", ["photos/b.png"], 0),
        ("photos", ["photos/a.JPG", "photos/b.png", "photos/odd[1].png", "photos/sub/c.webp"], 1),
        ("photos/*.png", ["photos/b.png", "photos/odd[1].png"], 0),
        ("photos/**/*.webp", ["photos/sub/c.webp"], 0),
        ("photos/s*", ["photos/sub/c.webp"], 0),
        ("photos/odd[1].png", ["photos/odd[1].png"], 0),
        ("photos/.cache/d.png", ["photos/.cache/d.png"], 0),
        (["photos/b.png", "photos/[ab]*"], ["photos/b.png", "photos/a.JPG"], 0),
        ("photos/**", ["photos/a.JPG", "photos/b.png", "photos/odd[1].png", "photos/sub/c.webp"], 1),
    ],
    ids=str,
)
def test_files_folders_and_patterns(folder, images, found, notes):
    paths, left_out = find_pictures(images)
    assert [str(path) for path in paths] == found
    assert len(left_out) == notes
    assert not notes or "1 .txt" in left_out[0]


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ("nowhere", "images=nowhere does not exist"),
        ("photos/*.bmp", "images=photos/*.bmp matches no file"),
        ("photos/*.txt", "images=photos/*.txt holds no images"),
        (["photos/b.png", "nowhere"], "images=nowhere does not exist"),
        ([], "images=[] names no image"),
        ("https://example.com/a.png", "on this machine"),
        ("", "has to be a file"),
    ],
    ids=str,
)
def test_words_that_mean_no_picture(folder, images, text):
    with pytest.raises(SettingError) as error:
        find_pictures(images)
    assert text in str(error.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_photographs_stand_upright(tmp_path, ending):
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: 40 x 20 pixels of a picture of 20 x 40
    path = tmp_path / f"photo.{ending}"
    wide.save(path, exif=exif)
    pixels = decode(open_upright(path))
    assert pixels.shape == (3, 40, 20)
    assert pixels[2, 5, 10] > 200 > 50 > pixels[2, 35, 10]


def test_an_upright_file_is_read_as_a_data_set_s(tmp_path, photographs):
    photographs[0].resize((50, 40)).save(tmp_path / "photo.jpg")
    image, index = PictureFiles([tmp_path / "photo.jpg"])[0]
    assert index == 0
    assert image.tile, "it is not decoded yet"
