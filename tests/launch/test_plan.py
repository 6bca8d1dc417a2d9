"""Plans of a run and their findings, for a launch on this machine and for hardware elsewhere."""

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.hardware.memory import GIB
from soft.launch import plan as planning
from soft.launch import resources
from soft.launch.hardware import Hardware
from soft.training.build import build_module
from soft.training.module import ImageClassifier
from tests.test_config import MODELS, compose


class Recipe:
    """The recipe, the data and the function that builds the module, as src/train.py hands them to the plan."""

    def __init__(self, *overrides: str):
        self.recipe = OmegaConf.to_container(compose(*overrides, "output_dir=x"), resolve=True)
        self.datamodule = instantiate(self.recipe["data"])
        data = self.datamodule
        self.build = partial(build_module, ImageClassifier, self.recipe, data.augment, data.img_size, datamodule=data)

    def rehearse(self, folder: Path) -> planning.Plan:
        plan, _ = planning.plan_run(self.recipe, "chosen", self.datamodule, self.build, folder, rehearse=True)
        return plan

    def launch(self, folder: Path) -> planning.Plan:
        plan, _ = planning.plan_run(self.recipe, "chosen", self.datamodule, self.build, folder)
        return plan


def kinds(result):
    return [finding.kind for finding in result.findings]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.setenv("IMAGENET_ROOT", "nowhere")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_on_the_papers_hardware(model, tmp_path):
    result = Recipe(f"model={model}", "trainer=v100_ddp").rehearse(tmp_path)
    memory = result.resources.memory
    assert result.exit_code == 0
    assert memory.averages == memory.weights >= 4 * result.params
    assert memory.training > memory.weights + memory.averages + memory.optimizer + memory.gradients
    assert memory.peak < result.resources.device_memory == 32 * GIB
    assert len(result.ranks) == 32
    if model == "soft_huge":
        assert memory.training > 8 * GIB
        assert "warning" not in kinds(result)


def test_imagenet_that_is_not_here(tmp_path):
    result = Recipe("model=soft_tiny", "trainer=gpu", "trainer.device_memory=2").rehearse(tmp_path)
    facts = result.facts
    assert (facts["train_images"], facts["val_images"], facts["num_classes"]) == (1281167, 50000, 1000)
    assert (facts["steps_per_epoch"], facts["steps"]) == (1251, 375300)
    assert (result.hardware.layout.per_device, result.hardware.layout.accumulate) == (128, 8)
    if not torch.cuda.is_available():
        assert sorted(kinds(result)) == ["error", "missing", "missing"]  # error: memory; missing: GPU and data
        assert result.exit_code == 2


def test_limits_that_change_what_a_run_sees_are_noted(tmp_path):
    limits = ("trainer.limit_val_batches=1", "trainer.limit_train_batches=5", "trainer.max_batch_per_device=4")
    sizes = ("data.val_images=10", "data.val_batch_size=4", "data.train_images=32", "data.batch_size=8")
    result = Recipe("data=fake", "trainer=cpu", *limits, *sizes).rehearse(tmp_path)
    assert [note for note in result.notes if "validation sees 4 of the 10 images" in note]
    assert [note for note in result.notes if "the last step of an epoch takes 1 of 2 accumulated batches" in note]


def test_broken_data_that_is_here(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    result = Recipe("data=imagenet", f"data.root={tmp_path}").rehearse(tmp_path)
    (finding,) = result.findings
    assert (finding.kind, result.exit_code) == ("error", 2)
    assert "neither val/ nor validation/" in finding.text


def test_data_that_a_launch_fetches(tmp_path):
    result = Recipe("data=cifar10", f"data.root={tmp_path}").rehearse(tmp_path)
    (finding,) = result.findings
    assert (finding.kind, result.facts["num_classes"], result.facts["steps"]) == ("missing", 10, None)
    assert "a launch fetches it" in finding.text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=1000", "trainer=v100_ddp", "data=fake"], "data.batch_size=1000 does not divide"),
        (["data.batch_size=2048"], "more than the 1437"),
        (["trainer=v100_ddp", "data.batch_size=64", "trainer.precision=bf16-mixed"], "no bfloat16"),
        (["data=imagenet", "data.expected.classes=null"], "Set data.num_classes"),
    ],
)
def test_settings_that_do_not_fit(overrides, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        Recipe(*overrides).rehearse(tmp_path)


@pytest.mark.parametrize(
    ("mode", "key", "answers", "text", "found"),
    [
        ("auto", None, None, "offline", []),
        ("online", None, None, "without a key", ["missing"]),
        ("online", "0123456789", True, "answers", []),
        ("auto", "0123456789", False, "does not answer", ["warning"]),
    ],
)
def test_wandb(mode, key, answers, text, found, tmp_path, monkeypatch):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(resources, "is_reachable", lambda url: answers)
    result = Recipe("logger=wandb", f"logger.wandb.mode={mode}").rehearse(tmp_path)
    assert text in result.resources.wandb
    assert kinds(result) == found


def test_checkpoints_need_room(tmp_path, monkeypatch):
    resources = Recipe().rehearse(tmp_path).resources
    assert resources.checkpoint == resources.memory.checkpoint
    assert resources.checkpoints == 4  # best and last, and one that replaces each
    assert Recipe("callbacks=none").rehearse(tmp_path).resources.checkpoints == 0


def test_a_launch_knows_its_memory_and_keeps_its_random_numbers(tmp_path):
    recipe = Recipe(
        "model=soft_tiny",
        "model.attention.num_landmarks=9",
        "data=fake",
        "data.img_size=64",
        "augment=paper",
        "trainer=cpu",
    )
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).rand()
    recipe.build = lambda *arguments, build=recipe.build: _seeded(build(*arguments))
    plan = recipe.launch(tmp_path)
    assert (random.random(), np.random.rand()) == expected
    assert GIB / 10 < plan.facts["expected_memory"] < plan.facts["device_memory"]
    assert plan.findings == []


def _seeded(module):
    random.seed(1), np.random.seed(1)
    return module


def test_a_launch_of_a_small_model_does_without(tmp_path):
    plan = Recipe().launch(tmp_path)
    assert plan.resources.memory is None
    assert "expected_memory" not in plan.facts
    assert plan.findings == []


def test_a_launch_with_too_little_memory_warns(tmp_path):
    overrides = (
        "model=soft_tiny",
        "model.attention.num_landmarks=9",
        "data=fake",
        "data.img_size=64",
        "trainer=cpu",
        "trainer.device_memory=0.1",
    )
    (finding,) = Recipe(*overrides).launch(tmp_path).findings
    assert finding.kind == "warning" or finding.kind == "error"
    assert "of the device's 102.4 MiB" in finding.text


def test_a_launch_on_too_few_nodes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SettingError, match="WORLD_SIZE"):
        Recipe().launch(tmp_path)


def test_triton_kernels_that_the_devices_lack_are_refused_before_the_data_is_read(tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr("soft.attention.kernels.availability.has_triton", lambda: True)
    triton = "model.attention.kernels=triton"
    with pytest.raises(SettingError, match="kernels=triton runs on a CPU in Triton's interpreter alone"):
        Recipe(triton, "trainer=cpu").launch(tmp_path)
    with pytest.raises(SettingError, match=r"kernels=triton computes in float32, and trainer\.precision=64-true in"):
        Recipe(triton, "trainer=cpu", "trainer.precision=64-true").launch(tmp_path)
    with pytest.raises(
        SettingError, match=r"needs a GPU of compute capability 8\.0 or more, and trainer\.gpu_arch=sm_70"
    ):
        Recipe(triton, "trainer=v100_ddp", "data=fake").rehearse(tmp_path)
    found = Recipe(triton, "trainer=cpu").rehearse(tmp_path).findings
    assert [f.kind for f in found if f.text.startswith("model.attention.kernels=triton runs on a CPU")] == ["missing"]


def test_an_operation_that_cannot_be_simulated_is_no_obstacle(tmp_path):
    recipe = Recipe()

    def build(*arguments, build=recipe.build):
        module = build(*arguments)
        module.model.head.register_forward_hook(lambda module, inputs, logits: print(logits.sum().item()))
        return module

    recipe.build = build
    result = recipe.rehearse(tmp_path)
    assert result.resources.memory is None
    assert kinds(result) == ["warning"]
    assert "memory of a step is not known" in result.findings[0].text


@pytest.mark.parametrize(("arch", "expected"), [("sm_70", False), ("sm_80", True), ("sm_120", True), (None, False)])
def test_the_memory_of_other_machines_gpus_is_that_of_the_kernels_they_run(arch, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(resources, "has_triton", lambda: True)
    gpus = Hardware("cuda", 1, 1, BatchLayout(1, 8, 1))
    assert resources._expects_kernels(gpus, arch) == expected
    assert not resources._expects_kernels(replace(gpus, accelerator="cpu"), arch)
