"""The weights as timm loads them from a folder or from huggingface.co: model.safetensors and config.json."""

import os
import shutil
import tempfile
from pathlib import Path

import timm
from torch import nn

from soft.errors import SettingError
from soft.export.output_check import check_difference, largest_difference
from soft.models.metadata import own_class_names
from soft.writing import explain_full_disk

FILES = ("model.safetensors", "config.json")


def export_timm(model: nn.Module, folder: Path, img_size: tuple[int, int], integers: bool = False) -> float:
    """Write model.safetensors and config.json into `folder`; return the largest difference of logits, which is 0.

    `timm.create_model("local-dir:FOLDER", pretrained=True)` loads them, in a program that imports `soft` first, which
    tells timm of the models. The names of the classes and the preprocessing are in config.json.

    Args:
        model: a SOFT model in evaluation mode on the CPU, with the layers of its training.
        img_size, integers: of the inputs for the comparison, see `soft.export.output_check.example_inputs`.

    Raises:
        SettingError: the difference is too large; nothing is written.
    """
    path = folder / FILES[0]
    with explain_full_disk(path):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export_") as partial:
            timm.models.save_for_hf(model, partial, model_config=hub_config(model), safe_serialization=True)
            again = timm.create_model(f"local-dir:{partial}", pretrained=True).eval()
            difference = largest_difference(model, again, img_size, (1, 3), integers)
            check_difference(path.name, difference)
            # safetensors lets nobody but the owner read its file; config.json has the usual permissions.
            shutil.copymode(Path(partial) / FILES[1], Path(partial) / FILES[0])
            for name in FILES:
                os.replace(Path(partial) / name, folder / name)
    return difference


def hub_config(model: nn.Module) -> dict[str, object]:
    """Return what config.json says beside what timm knows itself: the names of the classes."""
    names = own_class_names(model)
    return {"label_names": names} if names else {}


def check_account() -> None:
    """Refuse to upload without an account on huggingface.co.

    Raises:
        SettingError: no key is stored or in the environment.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise SettingError(
            "push_to_hub needs an account on huggingface.co: log in with `hf auth login`, or set HF_TOKEN. Without "
            "push_to_hub the files stay here."
        )


def push(model: nn.Module, repository: str, card: dict[str, object]) -> str:
    """Upload the weights, config.json and the model card; return the address of the commit.

    Args:
        repository: its name on huggingface.co, such as `me/soft-digits`; a new one is made.
        card: as from `soft.export.model_card.build_card`.
    """
    done = timm.models.push_to_hf_hub(
        model, repository, model_card=card, model_config=hub_config(model), safe_serialization=True
    )
    return str(getattr(done, "commit_url", done))
