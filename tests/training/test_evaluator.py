"""Validation metrics of a model that diverges."""

import pytest
import torch

from soft.training.evaluator import update_metrics, validation_metrics


def test_a_loss_that_is_not_a_number_is_not_left_out():
    metrics = validation_metrics(3)
    update_metrics(metrics, torch.zeros(4, 3), torch.zeros(4).long())
    update_metrics(metrics, torch.full((4, 3), torch.nan), torch.zeros(4).long())

    assert metrics.compute()["loss"].isnan()


def test_batches_count_by_their_images():
    metrics = validation_metrics(2)
    update_metrics(metrics, torch.tensor([[50.0, 0.0]] * 3), torch.zeros(3).long())
    update_metrics(metrics, torch.tensor([[0.0, 4.0]]), torch.zeros(1).long())

    assert metrics.compute()["loss"].item() == pytest.approx((4 + 0.01815) / 4, abs=1e-4)
