"""Read every image of a data set: `python src/verify_data.py [data=...]`, settings in conf/verify_data.yaml."""

from cli.entry import DictConfig, OmegaConf, entry


def verify_data(cfg: DictConfig) -> None:
    """Print the files that a run would skip; raise an error if there are any."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from hydra.utils import instantiate
    from rich.console import Console
    from rich.progress import Progress

    from soft.data.datamodule import ImageDataModule
    from soft.data.verification import find_bad_images
    from soft.errors import SettingError

    datamodule = instantiate(OmegaConf.to_container(cfg.data, resolve=True))
    if not isinstance(datamodule, ImageDataModule):
        raise SettingError(f"data={datamodule.dataset} is a task and no set of image files to be read.")
    datamodule.prepare_data()
    datamodule.setup()

    console, bad, turned = Console(), 0, 0
    for note in datamodule.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)
    with Progress(console=console) as progress:
        for split, images in (("training", datamodule.sets.train), ("validation", datamodule.sets.val)):
            task = progress.add_task(f"{split} images", total=len(images))
            for done, stored_turned, reasons in find_bad_images(images, datamodule.loader_workers):
                progress.advance(task, done)
                bad += len(reasons)
                turned += stored_turned
                for name, reason in reasons.items():
                    console.print(f"{name}: {reason}", soft_wrap=True, markup=False, highlight=False)
    if turned:
        console.print(
            f"Note: stored turned, with their orientation in EXIF data, as photographs of phones are: {turned} images. "
            "It is ignored, in training and afterwards; `exiftran -ai FILE` turns a JPEG itself.",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    total = datamodule.train_size + datamodule.val_size
    if bad:
        raise SettingError(
            f"{bad} of {total} images of data={datamodule.dataset} cannot be read; mend or delete the files above, or "
            f"let a run skip up to data.max_bad_images={cfg.data.get('max_bad_images', 0)} of them."
        )
    console.print(f"All {total} images can be read.")


main = entry("verify_data")(verify_data)

if __name__ == "__main__":
    main()
