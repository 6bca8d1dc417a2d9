"""Mixup and CutMix give timm's images, labels and draws."""

import numpy as np
import pytest
import timm.data
import torch

from soft.data.mixing import Mixup

BOTH = dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)


@pytest.mark.parametrize(
    "options",
    [BOTH, BOTH | dict(cutmix_alpha=0.0), BOTH | dict(mixup_alpha=0.0), BOTH | dict(prob=0.5)],
    ids=["both", "mixup", "cutmix", "half of the batches"],
)
def test_images_and_labels_are_timm_s(options):
    mixed = 0
    for seed in range(10):
        images, labels = torch.randn(6, 3, 20, 24), torch.randint(5, (6,))
        results = []
        for kind in (timm.data.Mixup, Mixup):
            np.random.seed(seed)
            results.append((*kind(**options)(images.clone(), labels), np.random.rand()))
        (expected, expected_labels, after), (result, result_labels, then) = results

        assert torch.allclose(result, expected, atol=2e-6)
        assert torch.equal(result_labels, expected_labels)
        assert then == after
        mixed += not torch.equal(result, images)
    assert mixed >= (3 if "prob" in options else 9)
