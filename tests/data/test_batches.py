"""Batches follow from (seed, epoch, index) alone; what becomes of their bytes on the device is the recipe's."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing

from soft.data.batches import Batch, TransformedImages, collate, normalise_and_erase
from soft.data.decoding import decode, open_image

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class Noise:
    """Three images in memory of random grey."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("L", (2, 2), random.randrange(256)), index


def with_random_row(image: Image.Image) -> torch.Tensor:
    pixels = decode(image)
    pixels[:, 0] = torch.randint(256, (2,)).byte()
    return pixels


def test_images_are_seeded_before_they_are_loaded_and_transformed():
    images = TransformedImages(Noise(), with_random_row, seed=4, erase_prob=1.0)

    def pixels(drawn) -> list:
        return images[drawn].pixels.tolist()

    first = pixels((0, 1))
    assert pixels((0, 1)) == first
    assert pixels((1, 1)) != first
    assert len({str(pixels(1)) for _ in range(5)}) > 1, "a plain index leaves the generators alone"
    assert images[1].label == 1
    assert images[0, 1].erase_seed == images[0, 1].erase_seed != images[1, 1].erase_seed
    assert images[1].erase_seed is None


class Files:
    """Files in a list, the index as label."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return open_image(self.files[index]), index


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Ten images of one grey level each, 10 times their index; 2, 3 and 7 cannot be read."""
    files = [tmp_path / f"{index}.png" for index in range(10)]
    for index, file in enumerate(files):
        Image.new("L", (2, 2), 10 * index).save(file)
    files[2].write_bytes(b"")
    files[3].write_bytes(files[3].read_bytes()[:-30])
    files[7].unlink()
    return files


def test_another_image_takes_the_place_of_a_bad_one_in_training(files):
    images = TransformedImages(Files(files), decode, seed=0, max_bad_images=3)
    batches = [collate([images[epoch, index] for index in range(10)]) for epoch in (0, 0, 1)]

    for batch in batches:
        assert len(batch.labels) == 10
        assert torch.equal(batch.images[:, 0, 0, 0], 10 * batch.labels), "image and label belong together"
        assert [int(label) for label in batch.labels if label in (2, 3, 7)] == []
        assert set(batch.bad) == {str(files[index]) for index in (2, 3, 7)}
        kept = [index for index in range(10) if index not in (2, 3, 7)]
        assert batch.labels[kept].tolist() == kept
    assert torch.equal(batches[0].labels, batches[1].labels), "always the same one in the same epoch"
    assert not torch.equal(batches[0].labels, batches[2].labels), "another one in the next epoch"


def test_a_bad_image_is_left_out_of_evaluation(files):
    images = TransformedImages(Files(files), decode, seed=0, max_bad_images=9)
    batch = collate([images[index] for index in range(10)])
    nothing = collate([images[index] for index in (2, 3)])

    assert batch.labels.tolist() == [0, 1, 4, 5, 6, 8, 9]
    assert batch.images[:, 0, 0, 0].tolist() == [0, 10, 40, 50, 60, 80, 90]
    assert len(batch.bad) == 3
    assert len(nothing.labels) == len(nothing.images) == 0
    assert normalise_and_erase(nothing, MEAN, STD).shape[:2] == (0, 3)


def test_looking_for_another_image_ends(files):
    for file in files:
        file.write_bytes(b"")

    assert len(TransformedImages(Files(files), decode, seed=0, max_bad_images=4)[0, 5].bad) == 5, "beyond the limit"
    sample = TransformedImages(Files(files), decode, seed=0, max_bad_images=50)[0, 5]
    assert sample.pixels is None
    assert len(sample.bad) == 10, "below the limit, but there is none"


def test_errors_of_a_transform_are_not_taken_for_bad_files(files):
    def broken(image):
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        TransformedImages(Files(files), broken, seed=0)[0, 0]


def test_files_are_closed(files):
    Image.new("RGB", (20, 20)).save(files[1], "JPEG")
    opened = []

    def transform(image):
        opened.append(image.fp)
        return decode(image)

    TransformedImages(Files(files), transform, seed=0)[0, 1]
    assert opened[0].closed


def random_batch(size: int = 8, **fields) -> Batch:
    images = torch.from_numpy(np.random.default_rng(0).integers(256, size=(size, 3, 32, 32), dtype=np.uint8))
    return Batch(**dict(images=images, labels=torch.zeros(size).long(), erase_seeds={}, bad={}) | fields)


def test_normalisation_uses_mean_and_std():
    batch = random_batch()
    expected = (batch.images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)

    assert torch.allclose(normalise_and_erase(batch, MEAN, STD), expected, atol=1e-6)


def test_erasing_fills_a_rectangle_with_noise_that_follows_from_its_seed():
    plain, images = (
        normalise_and_erase(random_batch(erase_seeds=seeds), MEAN, STD) for seeds in ({}, {1: 7, 4: 8, 6: 7})
    )
    erased = images != plain

    assert erased.flatten(1).any(1).tolist() == [False, True, False, False, True, False, True, False]
    assert torch.equal(erased[1], erased[6])
    assert torch.equal(images[1][erased[1]], images[6][erased[6]])
    assert not torch.equal(erased[1], erased[4])
    for image, change in ((images[1], erased[1]), (images[4], erased[4])):
        rows, columns = change.any(0).any(1), change.any(0).any(0)
        assert change[:, rows][:, :, columns].all()
        assert len(image[change].unique()) == change.sum(), "no two erased values are alike"


def test_erasing_is_distributed_as_timm_s():
    class Grey:
        def __len__(self):
            return 3000

        def __getitem__(self, index):
            return Image.new("L", (24, 24), 128), 0

    dataset = TransformedImages(Grey(), decode, seed=1, erase_prob=0.25)
    batch = collate([dataset[0, index] for index in range(3000)])
    grey = (128 / 255 - np.array(MEAN)) / np.array(STD)
    ours = normalise_and_erase(batch, MEAN, STD)
    random.seed(0)
    torch.manual_seed(0)
    timms = torch.from_numpy(grey).float().view(3, 1, 1).repeat(3000, 1, 24, 24)
    RandomErasing(0.25, mode="pixel", device="cpu")(timms)

    shares, moments = [], []
    for images in (ours, timms):
        erased = (images - torch.from_numpy(grey).float().view(3, 1, 1)).abs() > 1e-5
        area = erased[:, 0].flatten(1).float().mean(1)
        noise = images[erased]
        shares.append([(area > 0).float().mean(), area[area > 0].mean(), area[area > 0].std()])
        moments.append([noise.mean(), noise.std(), (noise.abs() > 2).float().mean()])
    assert torch.tensor(shares[0]) == pytest.approx(torch.tensor(shares[1]), abs=0.03)
    assert torch.tensor(moments[0]) == pytest.approx(torch.tensor(moments[1]), abs=0.02)
    assert shares[0][0] == pytest.approx(0.25, abs=0.03)
