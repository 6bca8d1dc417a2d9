"""Which pictures the words of a user mean."""

import shutil

import pytest
from PIL import ExifTags, Image

from soft.data.decoding import decode
from soft.data.image_folder import imagenet
from soft.data.picture_files import PictureFiles, find_pictures
from soft.data.verification import find_bad_images
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
def test_a_photograph_is_read_as_the_training_reads_it(tmp_path, ending):
    """A photograph that is stored turned is turned nowhere, and said to be; Pillow itself turns a TIFF."""
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: 40 x 20 pixels of a picture of 20 x 40
    path = tmp_path / "train" / "cat" / f"photo.{ending}"
    path.parent.mkdir(parents=True)
    (tmp_path / "val" / "cat").mkdir(parents=True)
    wide.save(path, exif=exif)
    shutil.copy(path, tmp_path / "val" / "cat")
    wide.save(path.with_name(f"upright.{ending}"))

    files = PictureFiles([path, path.with_name(f"upright.{ending}")])
    (image, number), (_, upright) = files[0], files[1]
    trained = imagenet(tmp_path, expected=None).val[0][0]
    assert (decode(image) == decode(trained)).all()
    assert (number, upright) == (0 if ending == "tif" else 2, 1)

    sets = imagenet(tmp_path, expected=None)
    found = [(done, turned) for part in (sets.train, sets.val) for done, turned, _ in find_bad_images(part, 0)]
    assert found == ([(2, 0), (1, 0)] if ending == "tif" else [(2, 1), (1, 1)])


def test_a_file_is_decoded_later(tmp_path, photographs):
    photographs[0].resize((50, 40)).save(tmp_path / "photo.jpg")
    image, index = PictureFiles([tmp_path / "photo.jpg"])[0]
    assert index == 0
    assert image.tile, "it is not decoded yet"
