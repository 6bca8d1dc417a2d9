"""Results of the authors' released code, and the rules that make its weights and inputs again from names and seeds.

golden.npz was computed in float64 and stored as float32. The normalised cases were computed with a step size per matrix
and the analytic gradient, because the released class cannot be built. Arrays are named `<case>.<what>`.
"""

import json
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
ARRAYS = np.load(FOLDER / "golden.npz")
# Each whole-model case has its model, resolution, batch, image_seed and, by the authors' key, the grad_norm of every
# parameter, for the loss sum(logits · image(image_seed + 1, logits.shape)).
MODEL_CASES = json.loads((FOLDER / "grad_norms.json").read_text())
# Keys and shapes of the five released models' state dicts, in their order. `soft_small` is the 39M layout.
OFFICIAL_SHAPES = json.loads((FOLDER / "official_state_dict_shapes.json").read_text())

# Relative errors ‖a − b‖ / ‖b‖ within which the golden data holds.
TOLERANCE = {torch.float64: 2e-7, torch.float32: 1e-4}


def golden(name: str) -> Tensor:
    """Return an array of golden.npz, in float64."""
    return torch.from_numpy(ARRAYS[name]).double()


def image(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal numbers from NumPy's frozen generator, the same on every machine, in float64."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


def fill(key: str, shape: tuple[int, ...]) -> Tensor:
    """Draw the value of a state-dict entry from its authors' name, in float64; BatchNorm's counter is int64."""
    leaf = key.split(".")[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = image(zlib.crc32(key.encode()), shape)
    if leaf == "running_var":
        return z.abs() + 0.5
    if leaf == "running_mean":
        return z * 0.1
    if leaf == "weight" and len(shape) == 1:
        # The smaller scale keeps landmarks so near that the kernel is not zero.
        return (z * 0.1 + 1) * (0.75 if "Qnorm_act" in key else 1)
    if len(shape) == 1:
        return z * 0.05
    if key.startswith(("pos_embed", "cls_token")):
        return z * 0.02
    return z / math.sqrt(math.prod(shape[1:])) * (0.7 if "W_q" in key else 1)


@cache
def official_weights(model: str) -> dict[str, Tensor]:
    """Return a filled state dict, in the authors' key names, of the released `model` or its normalised sibling."""
    shapes = OFFICIAL_SHAPES[model.replace("norm_", "").removesuffix("_39m")]
    return {key: fill(key, tuple(shape)) for key, shape in shapes.items()}


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return ‖value − reference‖ / ‖reference‖."""
    return ((value.detach().double() - reference.double()).norm() / reference.double().norm()).item()
