"""Pictures that a user names, by paths, folders or patterns, as a data set without labels."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from soft.data.decoding import is_turned, open_image
from soft.data.image_files import EXTENSIONS, count_extensions, is_hidden, is_image, left_out
from soft.errors import SettingError, first_few


class PictureFiles(Dataset):
    """Image files, read as those of a data set are.

    `files[index]` is (PIL image as `open_image` gives it, number). The number, in place of a label, is `index`, and
    `index + len(files)` for an image that is stored turned (`soft.data.decoding.is_turned`).
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image = open_image(self.paths[index])
        return image, index + len(self) * is_turned(image)


def find_pictures(images: str | Path | Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the image files that `images` names, each once, and notes on files that are left out.

    A file that is named itself is taken whatever its name. Of folders and patterns, whose subfolders are searched too,
    the files that `soft.data.image_files.is_image` knows are taken, without hidden ones, in alphabetical order.

    Args:
        images: a file, a folder or a pattern such as `photos/*.jpg` or `photos/**/*.png`, or several of them.

    Raises:
        SettingError: one of them names no image.
    """
    named = [images] if isinstance(images, (str, Path)) else list(images)
    if not named:
        raise SettingError("images=[] names no image; give a file, a folder or a pattern, or several: [A,B].")
    paths: dict[Path, None] = {}
    others: Counter[str] = Counter()
    for each in named:
        found, more = _find(str(each))
        paths.update(dict.fromkeys(found))
        others += more
    return list(paths), left_out(others, "files")


def _find(name: str) -> tuple[list[Path], Counter[str]]:
    path = Path(name).expanduser()
    if not name or "://" in name:
        raise SettingError(f"images={name} has to be a file, a folder or a pattern on this machine.")
    if path.is_file():
        return [path], Counter()
    matches = [path] if path.is_dir() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        what = "matches no file" if glob.has_magic(name) else "does not exist"
        raise SettingError(f"images={name} {what}; give an image, a folder of images or a pattern such as '*.jpg'.")
    files = dict.fromkeys(file for match in matches for file in _files(match))
    found = [file for file in files if is_image(file.name)]
    others = count_extensions(file.name for file in files if not is_image(file.name))
    if not found:
        there = f" It holds files with the extension {first_few(sorted(others))}." if any(others) else ""
        raise SettingError(f"images={name} holds no images; these extensions count: {', '.join(EXTENSIONS)}.{there}")
    return found, others


def _files(path: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, or a file itself, without hidden ones."""
    if not path.is_dir():
        return [] if is_hidden(path.name) else [path]
    inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return [file for file in inside if not is_hidden(file.relative_to(path).as_posix())]
