"""The reports of a trial to its search, and the end of a trial that is given up."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from soft.training.pruning import Pruning

optuna = pytest.importorskip("optuna")
EPOCHS = 6


class Rising(LightningModule):
    """Module whose val/top1 is `rate` times the number of epochs."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/top1", self.rate * (self.current_epoch + 1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(rate, callback, tmp_path):
    loader = DataLoader(torch.zeros(2, 1))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(
        max_epochs=EPOCHS, callbacks=[callback], enable_checkpointing=False, default_root_dir=tmp_path, **quiet
    )
    trainer.fit(Rising(rate), loader, loader)
    return trainer.current_epoch


def test_a_hopeless_trial_is_given_up(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2)
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    epochs = []
    for rate in (10.0, 9.0, 1.0, 11.0):
        trial = study.ask()
        epochs.append(train(rate, Pruning("val/top1", storage, "s", trial._trial_id, pruner), tmp_path))
        pruned = study.trials[trial.number].user_attrs.get("pruned")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED) if pruned else study.tell(trial, rate * EPOCHS)
    assert epochs == [EPOCHS, EPOCHS, 3, EPOCHS]  # trials are compared with the median from the third epoch on
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert study.trials[0].intermediate_values == {epoch: 10.0 * (epoch + 1) for epoch in range(EPOCHS)}


def test_without_a_trial_nothing_happens(tmp_path):
    assert train(1.0, Pruning(), tmp_path) == EPOCHS
