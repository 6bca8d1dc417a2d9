"""Each option changes images as it says, and a wrong value is a sentence that names its key."""

import numpy as np
import pytest
import torch
from PIL import Image

from soft.data.augmentation import Augmentation, eval_transform, train_transform
from soft.data.sampling import seed_position
from soft.errors import SettingError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
PAPER = dict(
    crop_scale=[0.08, 1.0],
    crop_ratio=[0.75, 4 / 3],
    hflip=0.5,
    interpolation="random",
    color_jitter=0.4,
    rand_augment="rand-m9-mstd0.5-inc1",
    erase_prob=0.25,
)


def picture(width: int = 48, height: int = 40) -> Image.Image:
    """A smooth colour gradient without any symmetry."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([4 * x + y, 3 * y + x, 250 - 2 * x - 2 * y], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def augmented(image: Image.Image, img_size=32, **options) -> torch.Tensor:
    return train_transform(Augmentation(**options), img_size, MEAN, STD)(image)


@pytest.mark.parametrize("img_size", [32, (24, 40)])
def test_without_augmentation_training_images_are_resized_and_cropped_at_the_centre(img_size):
    expected = eval_transform(img_size, MEAN, STD, crop_pct=1.0, interpolation="bicubic")(picture())

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
        dict(erase_prob=1.0),
        PAPER,
    ],
    ids=lambda options: "-".join(options) if len(options) == 1 else "paper",
)
def test_each_option_changes_images(options):
    # The picture has the network's size, so that nothing but the option can change it.
    plain = augmented(picture(32, 32))
    seed_position(1)
    changed = [augmented(picture(32, 32), **options) for _ in range(4)]

    assert {image.shape for image in changed} == {(3, 32, 32)}
    assert all(torch.isfinite(image).all() for image in changed)
    assert any(not torch.equal(image, plain) for image in changed)


def test_images_need_not_be_square():
    assert augmented(picture(), (24, 40), **PAPER).shape == (3, 24, 40)


def test_flip_mirrors_left_and_right():
    square = picture(32, 32)

    assert torch.equal(augmented(square, hflip=1.0), augmented(square).flip(-1))


def test_erasing_fills_a_rectangle_with_pixel_noise():
    seed_position(2)
    image = augmented(picture(32, 32), erase_prob=1.0)
    erased = image != augmented(picture(32, 32))
    rows, columns = erased.any(0).any(1), erased.any(0).any(0)

    assert 0.02 * 32 * 32 * 0.8 < rows.sum() * columns.sum() < 32 * 32 / 3 * 1.2
    assert erased[:, rows][:, :, columns].all()
    assert len(image[erased].unique()) == erased.sum(), "no two erased values are alike"


def test_random_interpolation_draws_from_two():
    results = set()
    for seed in range(8):
        seed_position(seed)
        results.add(augmented(picture(), crop_scale=[1, 1], hflip=1.0, interpolation="random").numpy().tobytes())
    assert len(results) == 2


def test_strongest_posterize_gives_a_black_image():
    # Pillow 13 refuses the 0 bits that timm asks for at magnitude 10.
    black = (torch.zeros(3, 32, 32) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    transform = train_transform(Augmentation(rand_augment="rand-m10-n1-p1.0-inc1"), 32, MEAN, STD)
    seed_position(3)

    assert any(torch.allclose(transform(picture()), black) for _ in range(100))


def test_normalisation_uses_mean_and_std():
    grey = Image.new("RGB", (20, 20), (51, 102, 153))
    expected = (torch.tensor([0.2, 0.4, 0.6]) - torch.tensor(MEAN)) / torch.tensor(STD)

    for image in (augmented(grey), augmented(grey, hflip=1.0)):
        assert torch.allclose(image, expected.view(3, 1, 1).expand(3, 32, 32), atol=1e-6)


def test_evaluation_resizes_the_short_side_and_crops_the_centre():
    # 224 / 0.9 rounded down is 248; an image whose short side is 248 is cropped without resizing.
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 248, 3), dtype=np.uint8))
    result = eval_transform(224, (0, 0, 0), (1, 1, 1), crop_pct=0.9, interpolation="bicubic")(image)

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal((result * 255).round().byte(), pixels[:, 38:262, 12:236])


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("crop_scale", [0.5, 1.2], "[0.5, 1.2]"),
        ("crop_scale", [0, 1], "[0, 1]"),
        ("crop_scale", [0.9, 0.5], "[0.9, 0.5]"),
        ("crop_scale", 0.5, "0.5"),
        ("crop_ratio", ["wide", 1], "['wide', 1]"),
        ("crop_ratio", [2.0, 1.0], "[2.0, 1.0]"),
        ("hflip", 1.5, "1.5"),
        ("hflip", "often", "'often'"),
        ("hflip", None, "None"),
        ("hflip", True, "True"),
        ("interpolation", "cubic", "'cubic'"),
        ("interpolation", ["bicubic"], "['bicubic']"),
        ("color_jitter", -0.1, "-0.1"),
        ("color_jitter", float("nan"), "nan"),
        ("erase_prob", -0.1, "-0.1"),
        ("mixup", -1, "-1"),
        ("mixup", "0.8x", "'0.8x'"),
        ("cutmix", float("inf"), "inf"),
        ("mixup_prob", 2, "2"),
        ("mixup_switch_prob", -1, "-1"),
        ("label_smoothing", 1.1, "1.1"),
        ("rand_augment", "rand-mm9", "rand-mm9"),
        ("rand_augment", "auto-m9", "auto-m9"),
        ("rand_augment", "rand-mstd1.2.3", "rand-mstd1.2.3"),
        ("rand_augment", "", ""),
        ("rand_augment", 9, "9"),
    ],
)
def test_a_wrong_value_names_its_key(field, value, shown):
    with pytest.raises(SettingError) as caught:
        Augmentation(**{field: value})

    message = str(caught.value)
    assert message.startswith(f"augment.{field}={shown} ")
    assert message.endswith(".")
    assert "\n" not in message


def test_lists_from_yaml_become_tuples():
    augment = Augmentation(crop_scale=[0.5, 1])

    assert augment.crop_scale == (0.5, 1)
    assert hash(augment) == hash(Augmentation(crop_scale=(0.5, 1)))
