"""Steps whose loss or gradient is not finite."""

import csv

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from soft.errors import RunError, SettingError
from soft.training.nonfinite import NonFiniteGuard, explain_forward, explain_gradient
from tests.training.small_run import Hook, train


def spoil(count: int, value: float = torch.nan) -> Hook:
    """Return a hook that sets one image of the `count`-th batch to `value`."""

    def act(trainer, module, batch):
        batch[0][0] = value

    return Hook("on_train_batch_start", count, act)


def watch(count: int, seen: list, hook: str = "on_train_batch_start") -> Hook:
    def act(trainer, module, batch):
        seen.append({key: value.clone() for key, value in module.state_dict().items()})

    return Hook(hook, count, act)


@pytest.mark.parametrize("batch", [3, 4], ids=["first of the step", "second of the step"])
@pytest.mark.parametrize("value", [torch.nan, 1e38], ids=["nan", "overflow"])
def test_a_step_is_skipped_whole(batch, value, tmp_path):
    before, after = [], []
    # Batches 3 and 4 are those of the second step.
    trainer = train(tmp_path, watch(3, before), spoil(batch, value), watch(5, after), epochs=1)
    for key, weights in before[0].items():
        assert torch.equal(weights, after[0][key]), key  # BatchNorm statistics and averages too
    assert trainer.global_step == 3
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["lr"]]
    assert [float(row["skipped_steps"]) for row in steps] == [0, 1, 1]
    assert len({row["lr"] for row in steps}) == 3  # the schedule goes on
    assert all(value.isfinite().all() for value in trainer.lightning_module.state_dict().values())
    (mean,) = [float(row["train/loss_epoch"]) for row in rows if row["train/loss_epoch"]]
    assert mean < 10


def test_an_infinite_loss_with_a_finite_gradient(tmp_path):
    """The loss has to spoil the gradient, because the gradient is all that the ranks share."""

    def act(trainer, module, batch):
        module.train_loss.forward = lambda logits, targets: logits.sum() + torch.inf

    trainer = train(tmp_path, Hook("on_train_batch_start", 5, act), epochs=1)
    assert trainer.lightning_module.guard.skipped == 1


def test_the_batch_that_fails_is_saved_not_the_last_of_the_step(tmp_path):
    with pytest.raises(RunError, match="The images are not finite already"):
        train(tmp_path, spoil(1), spoil(3), max_nonfinite_steps=2)
    assert torch.load(tmp_path / "nonfinite.pt", weights_only=True)["images"].isnan().any()


def test_a_row_of_them_ends_the_run(tmp_path):
    def act(trainer, module, batch):
        module.model.stages[1].blocks[0].mlp.fc1.bias.data[3] = torch.nan

    with pytest.raises(RunError) as error:
        train(tmp_path, Hook("on_train_batch_start", 5, act), max_nonfinite_steps=2)
    message = str(error.value)
    # The failing steps are step 3 of epoch 1 and step 1 of epoch 2.
    assert message.startswith("Stopped at epoch 2, batch 2: loss or gradient was not finite in too many steps")
    assert "The first layer with a non-finite output is stages.1.blocks.0.mlp.fc1." in message
    assert "Newton's iteration has not diverged (largest residual: stages.0 " in message
    saved = torch.load(tmp_path / "nonfinite.pt", weights_only=True)
    assert saved["images"].shape == (4, 3, 32, 32)
    assert saved["targets"].shape == (4, 4)  # mixed targets have a share for each class
    assert saved["weights"]["stages.1.blocks.0.mlp.fc1.bias"][3].isnan()
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["skipped_steps"] == [1, 1]


def test_single_ones_do_not(tmp_path):
    trainer = train(tmp_path, spoil(2), spoil(6), spoil(10), max_nonfinite_steps=2)
    assert trainer.lightning_module.guard.skipped == 3


@pytest.mark.slow
def test_a_float16_scaler_finds_its_scale(tmp_path):
    """A scaler finds its scale by overflowing in the first steps; these are skipped, and do not end the run."""
    seen = []

    def act(trainer, module, batch):
        trainer.strategy.precision_plugin = MixedPrecision(
            "16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20)
        )

    trainer = train(
        tmp_path,
        Hook("setup", 1, act),
        watch(1, seen),
        watch(2, seen),
        epochs=2,
        max_per_device=8,
        max_nonfinite_steps=2,
        train_images=24,
    )
    guard, scaler = trainer.lightning_module.guard, trainer.precision_plugin.scaler
    assert 2 < guard.skipped < 6
    assert scaler.get_scale() == 2.0 ** (20 - guard.skipped)
    assert guard.in_a_row == 0
    for key, weights in seen[0].items():
        assert torch.equal(weights, seen[1][key]), key
    assert (
        torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["MixedPrecision"]["scale"]
        == scaler.get_scale()
    )


class Attention(nn.Module):
    """Attention whose Newton iteration ends at a given residual."""

    def __init__(self, residual: float):
        super().__init__()
        self.residual = residual

    def forward(self, x, grid):
        return x * torch.inf

    def newton_residual(self, x, grid):
        return torch.full((len(x), 2), self.residual)


class Network(nn.Module):
    def __init__(self, residual: float):
        super().__init__()
        self.stages = nn.ModuleList([nn.ModuleDict({"blocks": nn.ModuleList([Attention(residual)])})])
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(self.stages[0]["blocks"][0](images.mean((2, 3)) + 1, (1, 1)))


@pytest.mark.parametrize("residual", [7.0, torch.nan, torch.inf])
def test_newton_has_diverged(residual):
    text = explain_forward(Network(residual), torch.rand(2, 3, 4, 4))
    assert "The first layer with a non-finite output is stages.0.blocks.0." in text
    assert "Newton's iteration has diverged in stages.0" in text


def test_the_gradient_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    assert explain_forward(model, torch.ones(1, 2)) == ""
    assert "finite numbers when it is repeated" in explain_gradient(model)
    model[0].weight.grad[0] = torch.inf
    assert "in the backward pass, the first non-finite gradient is 0.weight's" in explain_gradient(model)


def test_images_that_are_not_finite():
    assert explain_forward(nn.Linear(2, 2), torch.tensor([[torch.inf, 1.0]])) == "The images are not finite already."


@pytest.mark.parametrize("limit", [0, 1.5, "many"])
def test_limit_out_of_range(limit):
    with pytest.raises(SettingError, match="max_nonfinite_steps"):
        NonFiniteGuard(nn.Linear(1, 1), limit)
