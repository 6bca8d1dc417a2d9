"""A model card from what a checkpoint and its run's folder say, in the form that timm and huggingface.co read."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from timm.models._hub import generate_readme
from torch import nn

from soft.export.card_results import describe_results
from soft.export.card_usage import describe_usage
from soft.export.training_data import training_data
from soft.models.factory import describe_model
from soft.models.metadata import Metadata
from soft.runs.folder import run_folder
from soft.runs.result import read_result

NOT_RECORDED = "not recorded with this file"
CITATION = """@inproceedings{SOFT,
  title={SOFT: Softmax-free Transformer with Linear Complexity},
  author={Lu, Jiachen and Yao, Jinghan and Zhang, Junge and Zhu, Xiatian and Xu, Hang and Gao, Weiguo and Xu, Chunjing
          and Xiang, Tao and Zhang, Li},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}"""


def build_card(
    model: nn.Module,
    checkpoint: Path,
    metadata: Metadata | None,
    recipe: Mapping[str, object] | None,
    weights: str,
    command: str | None,
    files: Collection[str],
    source: str = "local-dir:FOLDER",
    integers: bool = False,
    img_size: tuple[int, int] | None = None,
    earlier: Collection[str] = (),
) -> dict[str, object]:
    """Return the card as timm's `generate_readme` takes it.

    Args:
        model: with timm's `pretrained_cfg`.
        checkpoint: the file; the folder of its run is looked for around it.
        metadata: what is known of classes and preprocessing.
        recipe: the configuration of the training, in plain containers.
        weights: `ema` or `raw`.
        command: the words that started the training.
        files: the names of the files that the card comes with.
        source: where timm finds model.safetensors and config.json, as `timm.create_model` takes it.
        integers: the model takes token ids, and no images.
        img_size: height and width that programs among `files` take; None for those of the training.
        earlier: names of files of earlier exports in the same folder, which the card does not describe.
    """
    folder = run_folder(checkpoint.absolute())
    result = (folder and read_result(folder)) or {}
    facts, environment = result.get("facts", {}), result.get("environment", {})
    averaged = bool((recipe or {}).get("ema", {}).get("decay"))
    name, example = model.pretrained_cfg["architecture"], "example" if integers else "image"
    data, tag = training_data(metadata, recipe, model.num_classes)
    unit = "positions" if integers else "px"
    trained = metadata and metadata.img_size
    programs = [file for file in files if file.endswith((".pt2", ".onnx"))]
    resized = bool(trained and img_size and programs and tuple(img_size) != tuple(trained))
    size = f"{_size(trained)} {unit}" if trained else NOT_RECORDED
    if resized:
        size = f"{_size(img_size)} {unit} in {' and '.join(programs)}; {size} in the training"
    stats = {
        "Parameters": f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M",
        "Input size" if integers else "Image size": size,
        "Classes": model.num_classes,
    }
    if "macs" in facts and not resized:
        stats["FLOPs (multiply-adds)"] = f"{facts['macs'] / 1e9:.3g} G per {example}"
    kind = "classification of token ids" if integers else "image classification"
    details: dict[str, object] = {"Model type": kind, "Model stats": stats}
    if tag:
        details["Dataset"] = tag
    details["Papers"] = [
        "SOFT: Softmax-free Transformer with Linear Complexity: https://arxiv.org/abs/2110.11945",
        "Softmax-free Linear Transformers: https://arxiv.org/abs/2207.03341",
    ]
    source_of_results = f"the validation {example}s of {data or 'its data'}" + (
        f" at the training's {_size(trained)} {unit}" if resized else ""
    )
    results = describe_results(folder, result, checkpoint, weights, averaged, source_of_results)
    sections = {
        "": describe_usage(model, name, files, source, integers, earlier),
        "Results": results or f"- Metrics: {NOT_RECORDED}.",
        "Training": _training(recipe, facts, environment, command, example),
        "Preprocessing and classes": _preprocessing(metadata, model, integers),
        "Limits": _limits(data, facts, model.num_classes, example),
    }
    return {
        "license": "mit",
        "tags": [*([] if integers else ["image-classification"]), "timm", "soft"],
        "description": f"{_describe_attention(model, name)}, trained on {data or 'data that is not recorded'}.",
        "details": details,
        "usage": "\n\n".join(f"## {title}\n{text}" if title else text for title, text in sections.items()),
        "citation": CITATION,
    }


def card_text(card: Mapping[str, object], name: str) -> str:
    """Return the text of README.md.

    Args:
        name: of the model, for the title.
    """
    return generate_readme(dict(card), name)


def _size(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _describe_attention(model: nn.Module, name: str) -> str:
    attention = (describe_model(model) or {}).get("attention", "soft")
    if attention in ("soft", "soft_norm"):
        return f"{name}, a softmax-free transformer whose attention is linear in the number of tokens"
    return f"{name} with {attention} attention in place of SOFT's own"


def _training(
    recipe: Mapping[str, object] | None,
    facts: Mapping[str, object],
    environment: Mapping[str, object],
    command: str | None,
    example: str,
) -> str:
    if recipe is None:
        lines = [f"- Recipe: {NOT_RECORDED}"]
    else:
        lines = [f"- {name}: {text}" for name, text in _recipe(recipe).items()]
    if facts:
        lines.append(
            f"- data: {facts['train_images']:,} training and {facts['val_images']:,} validation {example}s of "
            f"{facts['num_classes']} classes"
        )
        lines.append(
            f"- length: {facts['epochs']} epochs, {facts['steps']:,} steps of {facts['global_batch']} {example}s"
        )
        lines.append(f"- hardware: {facts['devices']} x {environment.get('device')}, {facts['precision']}")
    versions = ", ".join(
        f"{name} {environment[name]}" for name in ("torch", "lightning", "timm") if name in environment
    )
    lines.append(f"- software: {versions or NOT_RECORDED}")
    lines.append(f"- commit: {environment.get('commit') or NOT_RECORDED}")
    lines.append(f"- command: `{command}`" if command else f"- command: {NOT_RECORDED}")
    return "\n".join(lines)


def _recipe(recipe: Mapping[str, object]) -> dict[str, str]:
    """Return the settings of a training by group, without those that are empty, off or about files."""
    hidden = ("_target_", "_convert_", "recipe", "root", "cache", "path")

    def shown(value: object) -> str:
        if isinstance(value, Mapping):
            kept = {
                key: each
                for key, each in value.items()
                if key not in hidden and each is not None and each is not False and each not in ({}, [])
            }
            return ", ".join(f"{key} {shown(each)}" for key, each in kept.items())
        return (
            f"[{', '.join(map(str, value))}]"
            if isinstance(value, Sequence) and not isinstance(value, str)
            else str(value)
        )

    groups = {key: recipe.get(key) for key in ("model", "optimizer", "schedule", "augment", "ema")}
    if isinstance(groups["model"], Mapping) and isinstance(groups["model"].get("attention"), Mapping):
        groups["model"] = {"name": groups["model"]["name"], **groups["model"]["attention"], **groups["model"]}
        groups["model"]["attention"] = recipe["model"]["attention"]["attention"]
    texts = {key: shown(value) for key, value in groups.items() if isinstance(value, Mapping)}
    return {**{key: text for key, text in texts.items() if text}, "seed": str(recipe.get("seed"))}


def _preprocessing(metadata: Metadata | None, model: nn.Module, integers: bool) -> str:
    names = (metadata and metadata.class_names) or ()
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more, in config.json" if len(names) > 10 else "")
    if integers:
        return f"- token ids from 0 to {model.vocabulary - 1}\n- classes: {shown or 'not named'}"
    if metadata is None or metadata.mean is None:
        return f"- preprocessing: {NOT_RECORDED}"
    return "\n".join(
        [
            f"- images: RGB, short side resized to the image size / {metadata.crop_pct} ({metadata.interpolation}), "
            "centre cropped, values from 0 to 1",
            f"- normalised with mean {list(metadata.mean)} and standard deviation {list(metadata.std)}",
            f"- classes: {shown or f'{model.num_classes}, without names'}",
        ]
    )


def _limits(data: str | None, facts: Mapping[str, object], classes: int, example: str) -> str:
    known = data or "the training data"
    few = facts.get("train_images", 10**9) < 100_000
    lines = [
        f"- Every {example} is given one of {classes} classes, also one that belongs to none of them.",
        f"- The metrics are those of the validation {example}s of {known}; expect less on those of another source.",
        "- Probabilities are not calibrated for other data, and nothing is known of fairness between groups of people.",
    ]
    if few:
        lines.append(f"- Trained on {facts['train_images']:,} {example}s: a model for experiments, not for decisions.")
    return "\n".join(lines)
