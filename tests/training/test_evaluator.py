"""Validation metrics of a model that diverges."""

import torch

from soft.training.evaluator import update_metrics, validation_metrics


def test_a_loss_that_is_not_a_number_is_not_left_out():
    metrics = validation_metrics(3)
    update_metrics(metrics, torch.zeros(4, 3), torch.zeros(4).long())
    update_metrics(metrics, torch.full((4, 3), torch.nan), torch.zeros(4).long())

    assert metrics.compute()["loss"].isnan()
