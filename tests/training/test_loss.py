"""The losses by name, and the weights of classes in them."""

import pytest
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy

from soft.data.augmentation import Augmentation
from soft.errors import SettingError
from soft.training.loss import build_loss, find_class_weights

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 2, 2, 2])
WEIGHTS = [0.5, 2.0, 1.0]


def test_class_weights_are_factors_of_each_images_loss():
    single = F.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (torch.tensor(WEIGHTS)[LABELS] * single).mean()
    torch.testing.assert_close(build_loss(Augmentation(), class_weights=WEIGHTS)(LOGITS, LABELS), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "binary"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_does_not_depend_on_how_it_is_split(name, smoothing):
    loss = build_loss(Augmentation(label_smoothing=smoothing), name, WEIGHTS)
    halves = [loss(LOGITS[part], LABELS[part]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(torch.stack(halves).mean(), loss(LOGITS, LABELS))


@pytest.mark.parametrize("name", ["cross_entropy", "binary"])
@pytest.mark.parametrize("augment", [Augmentation(), Augmentation(label_smoothing=0.1), Augmentation(mixup=0.8)])
def test_weights_of_one_change_nothing(name, augment):
    targets = torch.rand(6, 3).softmax(1) if augment.mixup else LABELS
    plain, weighted = (build_loss(augment, name, weights)(LOGITS, targets) for weights in (None, [1.0, 1.0, 1.0]))
    torch.testing.assert_close(plain, weighted)


def test_binary_asks_about_each_class():
    loss = build_loss(Augmentation(label_smoothing=0.1), "binary")
    assert isinstance(loss, BinaryCrossEntropy)
    targets = torch.full((6, 3), 0.1 / 3)
    targets[torch.arange(6), LABELS] += 0.9
    torch.testing.assert_close(loss(LOGITS, LABELS), F.binary_cross_entropy_with_logits(LOGITS, targets))


def test_binary_weights_are_on_the_answer_to_the_images_own_class():
    plain, weighted = (build_loss(Augmentation(), "binary", weights) for weights in (None, [1.0, 1.0, 3.0]))
    torch.testing.assert_close(weighted(LOGITS[:3], LABELS[:3]), plain(LOGITS[:3], LABELS[:3]))  # none is of class 2
    own = F.softplus(-LOGITS[3:, 2]).sum() / 9
    torch.testing.assert_close(weighted(LOGITS[3:], LABELS[3:]) - plain(LOGITS[3:], LABELS[3:]), 2 * own)


@pytest.mark.parametrize("name", ["cross_entropy", "binary"])
def test_checkpoints_do_not_hold_the_weights(name):
    assert not build_loss(Augmentation(), name, WEIGHTS).state_dict()


def test_balanced_weights_are_one_on_average_over_the_images():
    weights = find_class_weights("balanced", 4, [2, 1, 3, 0])
    assert weights == pytest.approx([1, 2, 2 / 3, 0])
    assert sum(w * n for w, n in zip(weights, [2, 1, 3, 0], strict=True)) / 6 == pytest.approx(1)


def test_other_settings_of_weights():
    assert find_class_weights("none", 2, [1, 1]) is None
    assert find_class_weights([1, 0.5], 2, None) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("setting", "counts", "text"),
    [
        ("even", [1, 1], "loss.class_weights=even is not known"),
        ([1], [1, 1], r"loss.class_weights=\[1\] has to be a list of 2 numbers"),
        ([1, -1], [1, 1], "has to be a list of 2 numbers of at least 0"),
        (3, [1, 1], "loss.class_weights=3 has to be a list"),
        ("balanced", None, "classes can be counted"),
    ],
)
def test_wrong_weights(setting, counts, text):
    with pytest.raises(SettingError, match=text):
        find_class_weights(setting, 2, counts)


def test_an_unknown_loss():
    with pytest.raises(SettingError, match="cross_entropy, binary"):
        build_loss(Augmentation(), "hinge")
