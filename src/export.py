"""Export a checkpoint for other programs: `python src/export.py checkpoint=PATH`, settings in conf/export.yaml."""

from cli.entry import DictConfig, OmegaConf, entry


def export(cfg: DictConfig) -> None:
    """Write the model as model.pt2, model.onnx or model.safetensors, each compared with PyTorch, and a model card."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from functools import partial
    from pathlib import Path

    from timm.layers import to_2tuple

    from cli.checks import check_single
    from cli.recorded import training_command
    from soft.errors import SettingError
    from soft.export.card_usage import files_of_earlier_exports
    from soft.export.model_card import build_card, card_text
    from soft.export.onnx_program import export_onnx
    from soft.export.timm_folder import FILES as HUB_FILES
    from soft.export.timm_folder import check_account, export_timm, push
    from soft.export.torch_program import export_program
    from soft.export.training_data import training_data
    from soft.models.checkpoints import read_recipe
    from soft.models.factory import create_from_checkpoint
    from soft.models.inference import optimise_for_inference
    from soft.models.metadata import attach_metadata, published_metadata, read_metadata
    from soft.settings import check_choice, check_pixels, check_text, check_whole
    from soft.writing import replace_text

    check_single(cfg, "checkpoint")
    given, folder = OmegaConf.to_container(cfg, resolve=True), Path(cfg.output_dir)
    check_choice("format", given["format"], FORMATS)
    wanted = FORMATS[:-1] if given["format"] == "all" else (given["format"],)
    if given["float16_batch"] is not None:
        check_whole("float16_batch", given["float16_batch"], low=1)
        if "onnx" not in wanted:
            raise SettingError("float16_batch is for ONNX; add format=onnx or format=all, or leave it out.")
    if given["push_to_hub"] is not None:
        check_text("push_to_hub", given["push_to_hub"])
        check_account()

    model = create_from_checkpoint(cfg.checkpoint, given.get("model"), cfg.weights).eval()
    trained_size = tuple(model.default_cfg["input_size"][1:])  # that of the training, if the file says it
    size = list(trained_size) if given["img_size"] is None else given["img_size"]
    check_pixels("img_size", size)
    size = to_2tuple(size)
    metadata = read_metadata(cfg.checkpoint) or published_metadata(model)
    if metadata:
        attach_metadata(model, metadata)
    facts = {key: value for key, value in (metadata.to_dict() if metadata else {}).items() if key != "model"}
    facts |= {"architecture": model.pretrained_cfg["architecture"], "img_size": list(size)}
    recipe = read_recipe(cfg.checkpoint)
    if (data := training_data(metadata, recipe, model.num_classes)[0]) is not None:
        facts["dataset"] = data

    # If ONNX cannot express the model, that error is raised only after the other formats have been written
    fast, differences, refused = optimise_for_inference(model), {}, None
    integers = getattr(model, "vocabulary", None) is not None and not (metadata and metadata.mean)
    if "pt2" in wanted:
        differences["model.pt2"] = export_program(fast, folder / "model.pt2", size, facts, integers)
    if "safetensors" in wanted:
        differences["model.safetensors"] = export_timm(model, folder, trained_size, integers)
    if "onnx" in wanted:
        try:
            differences["model.onnx"] = export_onnx(fast, folder / "model.onnx", size, facts, integers=integers)
            if batch := given["float16_batch"]:
                name = "model_float16.onnx"
                differences[name] = export_onnx(fast, folder / name, size, facts, batch, integers)
        except SettingError as error:
            refused = error
    if not differences:
        raise refused
    recorded = (metadata, recipe, cfg.weights, training_command(cfg.checkpoint))
    build = partial(build_card, model, Path(cfg.checkpoint), *recorded, integers=integers)
    earlier = files_of_earlier_exports(folder, differences)
    card = build(files=differences, img_size=size, earlier=earlier)
    replace_text(folder / "README.md", card_text(card, facts["architecture"]))

    for name, difference in differences.items():
        batch = given["float16_batch"] if "float16" in name else "B"
        height, width = trained_size if name == "model.safetensors" else size
        images, logits = f"({batch}, {model.in_chans}, {height}, {width})", f"({batch}, {model.num_classes})"
        print(f"{folder / name}: {'integers' if integers else 'images'} {images} -> logits {logits}")
        print(f"largest difference from the model's logits: {difference:.0e} of the largest logit")
    if metadata and metadata.mean:
        mean, std = (list(values[: model.in_chans]) for values in (metadata.mean, metadata.std))
        print(f"images from 0 to 1, normalised with mean {mean} and standard deviation {std}")
    elif not integers:
        print("Note: the checkpoint does not say how to prepare images, so neither do these files.")
    print(f"model card: {folder / 'README.md'}")
    if earlier:
        print(f"Note: the card does not describe {', '.join(earlier)}, which an earlier export left in this folder.")
    if repository := given["push_to_hub"]:
        card = build(files=HUB_FILES, source=f"hf-hub:{repository}")
        print(f"uploaded: {push(model, repository, card)}")
    if refused:
        raise refused


FORMATS = ("pt2", "onnx", "safetensors", "all")

main = entry("export")(export)

if __name__ == "__main__":
    main()
