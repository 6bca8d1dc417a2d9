"""Classify images: `python src/predict.py checkpoint=PATH images=PATH`, settings in conf/predict.yaml."""

from cli.entry import DictConfig, OmegaConf, entry


def predict(cfg: DictConfig) -> None:
    """Print each image's most probable classes, and write predictions.csv and predictions.json."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from pathlib import Path

    from cli.checks import check_single
    from soft.data.preprocessing import PREPROCESSING
    from soft.errors import SettingError
    from soft.hardware.devices import choose_single_device
    from soft.models.factory import create_from_checkpoint
    from soft.models.metadata import attach_metadata, metadata_of, published_metadata, read_metadata
    from soft.monitoring.console import print_notes, print_rows
    from soft.prediction.prediction_files import print_predictions, write_predictions
    from soft.prediction.predictor import check_reads_pictures
    from soft.prediction.predictor import predict as predict_images
    from soft.runs.folder import from_here
    from soft.settings import check_pixels, check_whole

    check_single(cfg, "checkpoint")
    given = OmegaConf.to_container(cfg, resolve=True)
    check_whole("contact_sheet", given["contact_sheet"], low=0)
    device = choose_single_device(given["accelerator"])
    model = create_from_checkpoint(cfg.checkpoint, given.get("model"), cfg.weights)

    # Images are prepared as the checkpoint says, except for typed settings
    metadata, notes = read_metadata(cfg.checkpoint), []
    check_reads_pictures(model)
    data = given.get("data") or {}
    if data and any(key not in data for key in PREPROCESSING):
        raise SettingError(f"data={data['dataset']} has no pictures; choose a data set of images, or leave it out.")
    typed = {key: data[key] for key in PREPROCESSING if data}
    if given["img_size"] is not None:
        check_pixels("img_size", given["img_size"])
        typed["img_size"] = given["img_size"]
    if (metadata is None or metadata.mean is None) and not data:
        published = published_metadata(model)
        if published is None:
            raise SettingError(f"{cfg.checkpoint} does not say how to prepare images; add data=imagenet, for example.")
        attach_metadata(model, published)
        notes.append("The file names neither classes nor preprocessing: they are taken to be ImageNet's.")
    elif metadata is not None and metadata.origin == "recipe":
        notes.append("The checkpoint is an older one: images are prepared as its recipe says.")
    attach_metadata(model, metadata_of(typed))

    predictions = predict_images(
        model,
        given["images"],
        given["top"],
        batch_size=given["batch_size"],
        num_workers=given["num_workers"],
        device=device,
        pictures=given["contact_sheet"],
        progress=True,
    )
    predictions.notes[:0] = notes
    conditions = {"checkpoint": str(cfg.checkpoint), "weights": cfg.weights}
    written = write_predictions(predictions, conditions, Path(cfg.output_dir))
    print_predictions(predictions)
    print_rows({name: from_here(path) for name, path in written.items()})
    print_notes(predictions.notes)


main = entry("predict")(predict)

if __name__ == "__main__":
    main()
