"""The models are a light dependency: what training, reports and logging need is not looked for."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from packaging.requirements import Requirement

from soft.models.factory import describe_model
from soft.models.metadata import KEY, Metadata

SOURCES = Path(__file__).resolve().parents[2] / "src"

USE = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name in HIDDEN else self.finder.find_spec(name, path, target)

HIDDEN = set(sys.argv[2].split(","))
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]

import soft
import timm
import torch

model = timm.create_model("soft_pico", num_classes=10).eval()
print(list(model(torch.zeros(2, 3, 32, 32)).shape))
print(soft.load_model(sys.argv[1]).pretrained_cfg["label_names"])
timm.create_model("soft_pico", num_classes=3, checkpoint_path=sys.argv[1])
print(timm.create_model("soft_tiny", features_only=True, device="meta").feature_info.channels())
"""


def with_their_own(names: list[str]) -> set[str]:
    """Names of these distributions, of those that they require, and so on."""
    found: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        names += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.slow
def test_models_work_with_their_own_dependencies_alone(tmp_path):
    model = timm.create_model("soft_pico", num_classes=3)
    facts = Metadata(describe_model(model), "digits", ("a", "b", "c")).to_dict()
    torch.save(
        {"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}, KEY: facts}, tmp_path / "w.ckpt"
    )
    present = {"soft-transformer", *with_their_own(["torch", "torchvision", "timm", "safetensors"])}
    hidden = [
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if not present.intersection(re.sub(r"[-_.]+", "-", name).lower() for name in distributions)
    ]
    assert {"lightning", "hydra", "omegaconf", "wandb", "matplotlib", "sklearn"} <= set(hidden)
    assert not {"torch", "numpy", "PIL"}.intersection(hidden)
    result = subprocess.run(
        [sys.executable, "-c", USE, tmp_path / "w.ckpt", ",".join(hidden)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCES), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["[2, 10]", "('a', 'b', 'c')", "[64, 128, 320, 512]"]
