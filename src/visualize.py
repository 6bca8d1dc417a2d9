"""Draw attention maps: `python src/visualize.py image=PATH checkpoint=PATH`, settings in conf/visualize.yaml."""

from collections.abc import Mapping
from pathlib import Path

from cli.entry import DictConfig, ListConfig, OmegaConf, entry


def visualize(cfg: DictConfig) -> None:
    """Draw attention_maps.png: what points of one image attend to, with a column for each checkpoint."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    import json

    from soft.data.batches import normalise
    from soft.data.preprocessing import PREPROCESSING
    from soft.data.transforms import EvalTransform
    from soft.drawing import replace_figure
    from soft.errors import SettingError
    from soft.models.factory import create_from_checkpoint
    from soft.models.metadata import read_metadata
    from soft.monitoring.console import print_notes
    from soft.settings import check_pixels
    from soft.studies.attention_maps import draw_attention_maps
    from soft.writing import replace_text

    if cfg.stage is None and cfg.block != -1:
        raise SettingError(f"block={cfg.block} is a block of one stage; choose that too, for example with stage=1.")
    given = OmegaConf.to_container(cfg.model, resolve=True) if "model" in cfg else None
    paths = list(cfg.checkpoint) if isinstance(cfg.checkpoint, ListConfig) else [cfg.checkpoint]
    if not paths:
        raise SettingError("checkpoint=[] names no file; give one or several: [PATH,PATH].")
    models, kinds, preparations = [], [], []
    for path in paths:
        models.append(create_from_checkpoint(path, given, cfg.weights))
        if models[-1].in_chans != 3:
            raise SettingError(f"{path} was not trained on pictures, and image={cfg.image} is one.")
        trained = read_metadata(path)
        kinds.append(_attention(given or trained.model))
        data = cfg.data if "data" in cfg else trained.to_dict() if trained else {}
        if any(key not in data for key in PREPROCESSING):
            raise SettingError(f"{path} does not say how its images were prepared; add data=imagenet, for example.")
        preparations.append({key: _plain(data[key]) for key in PREPROCESSING})
    preparation, *others = preparations
    if any(other != preparation for other in others):
        raise SettingError(
            "The checkpoints were trained on images of different sizes or normalisations; show them one at a time, or "
            "choose one preparation for all of them, for example with data=digits."
        )
    if cfg.img_size is not None:
        check_pixels("img_size", _plain(cfg.img_size))
        preparation["img_size"] = _plain(cfg.img_size)
    mean, std = preparation.pop("mean"), preparation.pop("std")
    data = OmegaConf.to_container(cfg.data, resolve=True) if "data" in cfg else None
    pixels = EvalTransform(**preparation)(_open_image(cfg.image, paths[0], data))

    # Checkpoints with the same kind of attention are told apart by their place in the list.
    names = [kind if kinds.count(kind) == 1 else f"{kind} ({i})" for i, kind in enumerate(kinds, start=1)]
    figure = draw_attention_maps(
        dict(zip(names, models, strict=True)),
        normalise(pixels.unsqueeze(0), mean, std),
        _plain(cfg.points),
        layers=None if cfg.stage is None else [_layer(models[0], cfg.stage, cfg.block)],
        head=cfg.head,
        mean=mean,
        std=std,
    )
    picture = Path(cfg.output_dir) / "attention_maps.png"
    replace_figure(picture, figure)
    notes = [" ".join(figure.get_supxlabel().split())] if figure.get_supxlabel() else []
    facts = {"image": str(cfg.image), "checkpoints": [str(path) for path in paths], "weights": cfg.weights}
    replace_text(picture.with_suffix(".json"), json.dumps({**facts, "notes": notes}, indent=2) + "\n")
    print(f"attention maps  {picture}")
    print_notes(notes)


def _attention(model: Mapping[str, object]) -> str:
    attention = model.get("attention", "soft")
    return attention if isinstance(attention, str) else attention["attention"]


def _plain(value: object) -> object:
    return OmegaConf.to_container(value) if isinstance(value, ListConfig) else value


def _open_image(image: str, checkpoint: str, data: Mapping[str, object] | None):
    from torchvision.transforms.functional import to_pil_image

    from soft.data.bad_images import UnreadableImageError
    from soft.data.decoding import decode, open_image
    from soft.errors import SettingError

    if image.isdecimal() and not Path(image).exists():
        return _validation_image(int(image), checkpoint, data)
    try:
        with open_image(image) as file:
            return to_pil_image(decode(file))  # as src/predict.py reads it, for example with 16 bits a channel
    except (OSError, UnreadableImageError) as error:
        raise SettingError(f"image={image} does not exist, or cannot be read as a picture.") from error


def _validation_image(index: int, checkpoint: str, data: Mapping[str, object] | None):
    """Return a validation image of `data`, or of the data that the checkpoint was trained on."""
    from torchvision.transforms.functional import to_pil_image

    from cli.recorded import build_recorded, recorded_data
    from soft.data.decoding import decode
    from soft.errors import SettingError
    from soft.models.checkpoints import read_recipe

    if data is None:
        recipe = read_recipe(checkpoint)
        if recipe is None:
            raise SettingError(
                f"image={index} is no file, and {checkpoint} does not say which data it was trained on; add "
                "data=imagenet, for example."
            )
        data = recorded_data(recipe["data"], {}, checkpoint)
    datamodule = build_recorded(data, checkpoint)
    datamodule.prepare_data("validate")
    datamodule.setup("validate")
    if index >= datamodule.val_size:
        raise SettingError(
            f"image={index} is not there: {datamodule.dataset} has validation images 0 to {datamodule.val_size - 1}."
        )
    picture, _ = datamodule.sets.val[index]
    with picture:
        return to_pil_image(decode(picture))


def _layer(model, stage: int, block: int) -> str:
    from soft.errors import SettingError
    from soft.studies.attention_maps import attention_layers

    # The last stage of a pyramid holds the class token's softmax blocks.
    stages = max(int(name.split(".")[1]) for name in attention_layers(model)) + 1
    if stage not in range(1, stages + 1):
        fits = f"1 to {stages}" if stages > 1 else "1"
        raise SettingError(f"stage={stage} is not a stage with attention maps; choose {fits}.")
    blocks = len(model.stages[stage - 1].blocks)
    if block not in range(-blocks, blocks):
        raise SettingError(f"block={block} does not exist: stage {stage} has blocks 0 to {blocks - 1}.")
    return f"stages.{stage - 1}.blocks.{block % blocks}.attn"


main = entry("visualize")(visualize)

if __name__ == "__main__":
    main()
