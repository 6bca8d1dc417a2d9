"""Work that the ranks of one run do together, tested in forked processes over gloo."""

import re
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.layers import BatchNormAct2d
from timm.layers.norm_act import SyncBatchNormAct
from torch import nn

from soft.errors import RunError, SettingError
from soft.launch.distributed import check_same_recipe
from soft.training.nonfinite import stop_with_report
from soft.training.over_ranks import mean_over_ranks
from soft.training.sync_batchnorm import SyncBatchNorm
from soft.training.weight_average import share_statistics


def _join(rank: int, folder: Path, test, *arguments: object) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    test(rank, *arguments)
    (folder / f"rank{rank}").touch()
    dist.destroy_process_group()


def on_two_ranks(folder: Path, test, *arguments: object) -> list[int]:
    """Run `test(rank, *arguments)` in two processes, and return the ranks that reached its end.

    A failure in one of the processes is raised here.
    """
    mp.start_processes(_join, (folder, test, *arguments), nprocs=2, start_method="fork")
    return [rank for rank in range(2) if (folder / f"rank{rank}").exists()]


class Holder(nn.Module):
    """Module that holds a model as a LightningModule does."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model


def _batchnorm() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(BatchNormAct2d(3, inplace=False), nn.Conv2d(3, 4, 3), BatchNormAct2d(4, inplace=False))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.double()


def _compare_with_whole_batch(rank: int) -> None:
    torch.manual_seed(1)
    whole = (2 + 3 * torch.randn(6, 3, 5, 5, dtype=torch.float64)).requires_grad_()
    mine = whole.detach()[3 * rank :][:3].clone().requires_grad_()
    plain, synced = _batchnorm(), _batchnorm()
    names = list(synced.state_dict())
    SyncBatchNorm(on_gpu=False).apply(Holder(synced))
    assert list(synced.state_dict()) == names

    for _ in range(2):
        out, mine_out = plain(whole), synced(mine)
        torch.testing.assert_close(mine_out, out[3 * rank :][:3], rtol=0, atol=1e-12)
        out.square().mean().backward()
        mine_out.square().mean().backward()
    # DDP averages gradients, because each rank's loss is the mean over its half of the batch.
    torch.testing.assert_close(mine.grad / 2, whole.grad[3 * rank :][:3], rtol=0, atol=1e-12)
    for ours, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
        dist.all_reduce(ours.grad)
        torch.testing.assert_close(ours.grad / 2, theirs.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(synced.state_dict(), plain.state_dict(), rtol=0, atol=1e-12)
    torch.testing.assert_close(synced.eval()(mine), plain.eval()(mine), rtol=0, atol=1e-12)


def test_synchronised_batchnorm_is_that_of_the_whole_batch(tmp_path):
    assert on_two_ranks(tmp_path, _compare_with_whole_batch) == [0, 1]


def test_on_gpus_the_activation_stays():
    """PyTorch's own conversion, which Lightning uses, drops the ReLU inside timm's layers."""
    model = timm.create_model("soft_pico", num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    before, names = model(images), list(model.state_dict())
    SyncBatchNorm(on_gpu=True).apply(Holder(model))
    assert sum(isinstance(layer, SyncBatchNormAct) for layer in model.modules()) == 6
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert list(model.state_dict()) == names


def _compare_recipes(rank: int, recipes: list[dict], message: str | None) -> None:
    if message is None:
        return check_same_recipe(recipes[rank])
    with pytest.raises(SettingError) as error:
        check_same_recipe(recipes[rank])
    assert re.search(message, str(error.value)), error.value


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": {"root": "/a"}, "seed": 0}, None),
        ({"data": {"root": "/b"}, "seed": 0}, r"Ranks 0 and 1 .* data\.root \('/a' and '/b'\)"),
        ({"data": {"root": "/a"}, "seed": 1, "name": "x"}, r"seed \(0 and 1\), name \(None and 'x'\)"),
    ],
)
def test_ranks_compare_their_recipes(tmp_path, other, message):
    recipes = [{"seed": 0, "data": {"root": "/a"}}, other]
    assert on_two_ranks(tmp_path, _compare_recipes, recipes, message) == [0, 1]


def _mean(rank: int) -> None:
    x = torch.tensor([1.0, 3.0][rank], requires_grad=True)
    mean = mean_over_ranks(x)
    assert mean.item() == 2.0
    mean.backward()
    assert x.grad.item() == 1.0  # 1/2 of its own mean, and 1/2 of the other rank's


def test_mean_over_ranks(tmp_path):
    assert on_two_ranks(tmp_path, _mean) == [0, 1]


def test_the_mean_of_one_process_is_its_own():
    x = torch.tensor(3.0)
    assert mean_over_ranks(x) is x


def _evaluate(rank: int) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    model[0].running_mean.fill_(rank)
    model[0].running_var.fill_(2 + rank)
    model[1].weight.data.fill_(rank)
    share_statistics([model], 2)
    assert model[0].running_mean.tolist() == [0, 0]
    assert model[0].running_var.tolist() == [2, 2]
    assert model[1].weight.flatten().tolist() == [rank] * 4  # DDP keeps weights the same


def test_ranks_evaluate_with_the_statistics_of_the_checkpoint(tmp_path):
    assert on_two_ranks(tmp_path, _evaluate) == [0, 1]


def _stop(rank: int, folder: Path) -> None:
    module = Holder(_batchnorm())
    SyncBatchNorm(on_gpu=False).apply(module)
    batches = [(torch.randn(2, 3, 5, 5).double(), torch.zeros(2)) for _ in range(2)]
    batches[rank][0][0] = torch.nan  # the first batch of rank 0, the second of rank 1
    with pytest.raises(RunError, match=r"The images are not finite already.*nonfinite_rank0.pt"):
        stop_with_report(module.model, batches, folder, "epoch 1, batch 1")
    saved = torch.load(folder / f"nonfinite_rank{rank}.pt", weights_only=True)
    assert torch.equal(saved["images"].isnan(), batches[0][0].isnan())  # rank 1 gets what rank 0 has spoiled


def test_ranks_whose_numbers_fail_in_different_batches_end_with_a_report(tmp_path):
    """Synchronised BatchNorm makes each forward pass one of all ranks."""
    assert on_two_ranks(tmp_path, _stop, tmp_path) == [0, 1]
