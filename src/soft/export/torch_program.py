"""The model as a program of PyTorch alone: model.pt2."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from soft.export.output_check import check_difference, example_inputs, largest_difference, place_for

METADATA = "metadata.json"  # beside the program, in its file


def export_program(
    model: nn.Module,
    path: Path,
    img_size: tuple[int, int],
    metadata: Mapping[str, object] | None = None,
    integers: bool = False,
) -> float:
    """Write `model` as a program that PyTorch runs without this code: `torch.export.load(path).module()`.

    Args:
        model: the model in evaluation mode on the CPU, such as `optimise_for_inference` returns.
        path: the file to write, by custom with the ending .pt2.
        img_size: height and width of the images (B, in_chans, height, width) that the program takes, for any B.
        metadata: what `program_metadata` gives back.
        integers: the model takes token ids or grey values.

    Returns:
        The largest difference between the logits of `model` and of the program that is read back from the file,
        relative to the largest logit.

    Raises:
        SettingError: the difference is too large; nothing is written.
    """
    images = example_inputs(model, 2, img_size, integers)
    with place_for(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # about weights that share storage
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata or {})})
        difference = largest_difference(model, torch.export.load(file).module(), img_size, (1, 3), integers)
        check_difference(path.name, difference)
    return difference


def program_metadata(path: str | Path) -> dict[str, object]:
    """Return the metadata of a program that `export_program` wrote."""
    files = {METADATA: ""}
    torch.export.load(path, extra_files=files)
    return json.loads(files[METADATA])
