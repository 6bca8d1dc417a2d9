"""A model card's code: how each of the exported files is loaded."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from soft.export.timm_folder import FILES

# All files of an export that a card speaks of
KNOWN = ("model.pt2", "model.onnx", "model_float16.onnx", *FILES)


def describe_usage(
    model: nn.Module, name: str, files: Collection[str], source: str, integers: bool, earlier: Collection[str] = ()
) -> str:
    """Return the code as Markdown.

    Args:
        name: of the model.
        earlier: names of files of earlier exports in the same folder.
        files, source, integers: as for `soft.export.model_card.build_card`.
    """
    inputs = _TOKENS.format(channels=model.in_chans) if integers else _IMAGES
    parts = []
    if "model.safetensors" in files:
        parts.append(_TIMM.format(name=name, source=source, inputs=inputs))
    if "model.pt2" in files:
        parts.append(_PT2)
    if onnx := [file for file in files if file.endswith(".onnx")]:
        parts.append(_ONNX.format(file=onnx[0]))
    if len(parts) > ("model.safetensors" in files):
        taken = (
            f"token ids (B, {model.in_chans}, H, W) as int64, in place of the `images` above"
            if integers
            else f"normalised images (B, {model.in_chans}, H, W)"
        )
        parts.append(f"Programs take {taken}, and name classes and preprocessing in their metadata.")
    if earlier:
        parts.append(
            f"This card does not describe {', '.join(earlier)} in this folder, which an earlier export wrote, perhaps "
            "of other weights."
        )
    return "\n\n".join(parts)


def files_of_earlier_exports(folder: Path, written: Collection[str]) -> list[str]:
    """Return the names of files that an earlier export left in `folder`, where this one has written others.

    Args:
        written: names of this export's files.
    """
    ours = {*written, *(FILES if FILES[0] in written else ())}
    return [name for name in KNOWN if name not in ours and (folder / name).is_file()]


_TIMM = """```python
import soft, timm  # soft tells timm of {name}

model = timm.create_model("{source}", pretrained=True).eval()  # from model.safetensors and config.json
{inputs}
```"""
_IMAGES = """transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
probabilities = model(transform(image).unsqueeze(0)).softmax(-1)  # image: a PIL image in RGB"""
_TOKENS = "probabilities = model(tokens).softmax(-1)  # tokens: token ids (B, {channels}, H, W) as int64"
_PT2 = """```python
import json, torch  # nothing else

files = {"metadata.json": ""}
program = torch.export.load("model.pt2", extra_files=files)
model = program.module()  # on a CPU; for a GPU, in place of this line, since .to("cuda") does not move all of it:
# from torch.export.passes import move_to_device_pass
# model = move_to_device_pass(program, "cuda").module()
probabilities, classes = model(images).softmax(-1), json.loads(files["metadata.json"])["class_names"]
```"""
_ONNX = """```python
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(logits,) = session.run(None, {{"images": images}})  # a NumPy array
metadata = session.get_modelmeta().custom_metadata_map  # each value is JSON
```"""
