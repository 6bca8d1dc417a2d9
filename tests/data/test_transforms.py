"""Each option changes images as it says, and pixels are those of Pillow and timm, however little is decoded."""

import pickle

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image, ImageFilter

from soft.data import decoding
from soft.data.augmentation import Augmentation
from soft.data.decoding import open_image
from soft.data.sampling import seed_generators
from soft.data.transforms import EvalTransform, train_transform

MEAN = (0.5, 0.4, 0.3)
PAPER = dict(
    crop_scale=[0.08, 1.0],
    crop_ratio=[0.75, 4 / 3],
    hflip=0.5,
    interpolation="random",
    color_jitter=0.4,
    rand_augment="rand-m9-mstd0.5-inc1",
)


def picture(width: int = 48, height: int = 40) -> Image.Image:
    """A smooth colour gradient without any symmetry."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([4 * x + y, 3 * y + x, 250 - 2 * x - 2 * y], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def augmented(image: Image.Image, img_size=32, **options) -> torch.Tensor:
    return train_transform(Augmentation(**options), img_size, MEAN)(image)


@pytest.mark.parametrize("img_size", [32, (24, 40)])
def test_without_augmentation_training_images_are_resized_and_cropped_at_the_centre(img_size):
    expected = EvalTransform(img_size, crop_pct=1.0, interpolation="bicubic")(picture())

    assert torch.equal(augmented(picture(), img_size), expected)
    assert torch.equal(augmented(picture(), img_size, interpolation="random"), expected)


@pytest.mark.parametrize(
    "options",
    [
        dict(crop_scale=[0.2, 0.4]),
        dict(crop_ratio=[0.5, 0.6]),
        dict(hflip=1.0),
        dict(color_jitter=0.4),
        dict(rand_augment="rand-m9-mstd0.5-inc1"),
        PAPER,
    ],
    ids=lambda options: "-".join(options) if len(options) == 1 else "paper",
)
def test_each_option_changes_images(options):
    # The picture has the network's size, so that nothing but the option can change it.
    plain = augmented(picture(32, 32))
    seed_generators(1)
    changed = [augmented(picture(32, 32), **options) for _ in range(4)]

    assert {(image.shape, image.dtype) for image in changed} == {((3, 32, 32), torch.uint8)}
    assert any(not torch.equal(image, plain) for image in changed)


def test_images_need_not_be_square():
    assert augmented(picture(), (24, 40), **PAPER).shape == (3, 24, 40)


def test_flip_mirrors_left_and_right():
    square = picture(32, 32)

    assert torch.equal(augmented(square, hflip=1.0), augmented(square).flip(-1))


def test_random_interpolation_draws_from_two():
    results = set()
    for seed in range(8):
        seed_generators(seed)
        results.add(augmented(picture(), crop_scale=[1, 1], hflip=1.0, interpolation="random").numpy().tobytes())
    assert len(results) == 2


def test_strongest_posterize_gives_a_black_image():
    # Pillow 13 refuses the 0 bits that timm asks for at magnitude 10.
    transform = train_transform(Augmentation(rand_augment="rand-m10-n1-p1.0-inc1"), 32, MEAN)
    seed_generators(3)

    assert any(not transform(picture()).any() for _ in range(100))


def test_transforms_can_be_sent_to_a_process():
    for transform in (train_transform(Augmentation(**PAPER), 32, MEAN), EvalTransform(32, 1.0, "bicubic")):
        seed_generators(5)
        expected = transform(picture())
        seed_generators(5)
        assert torch.equal(pickle.loads(pickle.dumps(transform))(picture()), expected)


def test_evaluation_resizes_the_short_side_and_crops_the_centre():
    # 224 / 0.9 rounded down is 248; an image whose short side is 248 is cropped without resizing.
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 248, 3), dtype=np.uint8))
    result = EvalTransform(224, crop_pct=0.9, interpolation="bicubic")(image)

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(result, pixels[:, 38:262, 12:236])


def save(photograph: Image.Image, path, size: tuple[int, int], **options):
    photograph.resize(size, Image.Resampling.LANCZOS).save(path, "JPEG", quality=90, **options)
    return path


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("source", "img_size", "crop_pct"),
    [
        ((500, 375), 224, 0.9),
        ((375, 500), 224, 0.9),
        ((1200, 900), 224, 0.9),
        ((180, 120), 224, 0.875),
        ((640, 427), (192, 256), 1.0),
    ],
)
def test_evaluation_is_pillow_s_to_a_tenth_of_a_grey_level(
    photographs, tmp_path, source, img_size, crop_pct, interpolation
):
    pillow = timm.data.create_transform(img_size, crop_pct=crop_pct, interpolation=interpolation, normalize=False)
    for photograph in photographs:
        file = save(photograph, tmp_path / "photograph.jpg", source)
        expected = pillow(Image.open(file)).int()
        with open_image(file) as image:
            difference = (EvalTransform(img_size, crop_pct, interpolation)(image) - expected).abs()

        assert difference.float().mean() < 0.1
        assert difference.max() <= 8


@pytest.mark.parametrize(("source", "mean_difference"), [((500, 375), 0.1), ((1200, 900), 1.5), ((3000, 2001), 1.5)])
def test_a_random_crop_is_timm_s_also_of_a_reduced_image(photographs, tmp_path, source, mean_difference):
    # Smooth, since a reduced image can be cropped at its own pixels only: half a pixel moves a sharp edge a lot.
    smooth = photographs[0].filter(ImageFilter.GaussianBlur(8))
    options = dict(crop_scale=[0.3, 1.0], crop_ratio=[0.75, 4 / 3], interpolation="bicubic")
    pillow = timm.data.transforms.RandomResizedCropAndInterpolation(224, (0.3, 1.0), (0.75, 4 / 3), "bicubic")
    transform = train_transform(Augmentation(**options), 224, MEAN)
    file = save(smooth, tmp_path / "photograph.jpg", source)
    for seed in range(8):
        seed_generators(seed)
        expected = np.asarray(pillow(Image.open(file))).astype(float).transpose(2, 0, 1)
        seed_generators(seed)
        with open_image(file) as image:
            assert np.abs(transform(image).numpy() - expected).mean() < mean_difference


def test_what_is_decoded_for_a_crop_is_reduced_but_never_below_the_network_s_size(photographs, tmp_path, monkeypatch):
    sizes = []

    def decode(image, box, target):
        part = decoding.decode(image, box, target)
        sizes.append((box[2] - box[0], box[3] - box[1], part.shape[2], part.shape[1]))
        return part

    monkeypatch.setattr("soft.data.transforms.decode", decode)
    transform = train_transform(Augmentation(crop_scale=[0.05, 1.0], crop_ratio=[0.5, 2.0]), 100, MEAN)
    file = save(photographs[0], tmp_path / "photograph.jpg", (1003, 749))
    for seed in range(100):
        seed_generators(seed)
        with open_image(file) as image:
            transform(image)

    reduced = [part for part in sizes if part[:2] != part[2:]]
    assert len(reduced) > 20
    for crop_width, crop_height, width, height in reduced:
        assert min(width, height) >= 150
        assert max(width / crop_width, height / crop_height) < 0.55
    for crop_width, crop_height, _, _ in set(sizes) - set(reduced):
        assert min(crop_width, crop_height) < 300 + 2, "it could have been reduced"
