"""What the models compute on the device, against the authors' released code."""

import copy
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import timm
import torch

from soft.attention.kernels.availability import MAX_ERROR, largest_error, why_not
from soft.benchmark.gpu_check.measured import Check, Measured
from soft.hardware.float32 import multiply_float32_as
from soft.models.checkpoints import load_weights

# Type of the weights, how float32 is multiplied, autocast's type, and the largest relative error of the logits.
FORMS = {
    "float64": (torch.float64, "ieee", None, 2e-7),
    "float32, ieee": (torch.float32, "ieee", None, 1e-4),
    "float32, tf32": (torch.float32, "tf32", None, None),
    "bf16-mixed": (torch.float32, "ieee", torch.bfloat16, None),
    "16-mixed": (torch.float32, "ieee", torch.float16, None),
}


def measure_numbers(check: Check) -> Iterator[Measured]:
    """Yield the error of the kernels, and that of the logits of each golden case in each precision."""
    if reason := why_not(check.device):
        yield Measured("kernels", "not here", note=f"kernels=triton {reason}")
    else:
        for normalised in (False, True):
            what = f"kernels of {'soft_norm' if normalised else 'soft'} and their gradients, against float64"
            error = largest_error(check.device, 16 if check.small else 49, 32, normalised)
            yield Measured(what, error, "relative error", maximum=MAX_ERROR)
    if not (check.source / "tests" / "golden").is_dir():
        yield Measured("golden data", "not here", note="run from a checkout of the project")
        return
    data = _import_from(check.source, "tests.golden")
    cases = list(data.MODEL_CASES)[:1] if check.small else list(data.MODEL_CASES)
    for case in cases:
        info = data.MODEL_CASES[case]
        exact = timm.create_model(info["model"]).eval().double()  # float32 would round the weights
        load_weights(exact, data.official_weights(info["model"]))
        images = data.image(info["image_seed"], (info["batch"], 3, info["resolution"], info["resolution"])).to(
            check.device
        )
        for name, (dtype, float32, autocast, limit) in FORMS.items():
            if autocast == torch.float16 and not check.on_gpu:
                continue
            multiply_float32_as(float32)
            model = copy.deepcopy(exact).to(check.device, dtype)
            with torch.no_grad(), torch.autocast(check.device.type, autocast, enabled=autocast is not None):
                logits = model(images.to(dtype))
            multiply_float32_as("ieee")
            error = data.relative_error(logits.cpu(), data.golden(f"{case}.logits"))
            yield Measured(f"logits of {case}, {name}", error, "relative error", maximum=limit)


def _import_from(folder: Path, name: str) -> ModuleType:
    """Return a module that lies in `folder`, which is not installed."""
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(folder))
