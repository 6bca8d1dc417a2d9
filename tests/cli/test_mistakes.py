"""What becomes of errors that other libraries raise because of a setting."""

import sys

from lightning.fabric.utilities.exceptions import MisconfigurationException

from cli.mistakes import explain


def test_what_lightning_refuses_names_what_was_typed_for_it(monkeypatch):
    error = MisconfigurationException("0.1 * 2 < 1.\nPlease increase it.")
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "+trainer.overfit_batches=0.1"])
    text = "Lightning's Trainer does not take +trainer.overfit_batches=0.1: 0.1 * 2 < 1. Please increase it."
    assert explain(error, "train") == text
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1"])
    assert explain(error, "train") is None  # then it is a fault of ours, which keeps its traceback
