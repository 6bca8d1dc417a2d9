"""A small tree of class folders, for what reads one and for what is written from one."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images


def write_class_folders(root: Path, train: int = 6, val: int = 3, size: tuple[int, int] = (48, 40)) -> Path:
    """train/ and val/ of two classes with so many images each, JPEG and PNG, of `size` (width, height) pixels."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for split, count in (("train", train), ("val", val)):
        for name, photograph in zip(("n01440764", "n02119789"), photographs, strict=True):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = photograph.resize((size[0] + count, size[1] + count)).crop((i, i, size[0] + i, size[1] + i))
                if i % 4 == 1:
                    image.convert("CMYK").save(folder / f"{name}_{i}.JPEG", "JPEG")
                elif i % 4 == 2:
                    image.save(folder / f"{name}.v{i}.png")
                else:
                    image.save(folder / f"{name}_{i}.JPEG")
    return root
