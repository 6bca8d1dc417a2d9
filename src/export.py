"""Export a checkpoint for inference: `python src/export.py checkpoint=PATH`, settings in conf/export.yaml."""

from cli.entry import DictConfig, OmegaConf, entry


def export(cfg: DictConfig) -> None:
    """Write model.pt2: the model as a program that needs PyTorch alone, rewritten for fast inference."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from pathlib import Path

    from soft.errors import SettingError
    from soft.models.factory import create_from_checkpoint
    from soft.models.inference import export_program, optimise_for_inference, takes_token_ids
    from soft.models.metadata import read_metadata
    from soft.settings import check_pixels

    given = OmegaConf.to_container(cfg.model, resolve=True) if "model" in cfg else None
    model = optimise_for_inference(create_from_checkpoint(cfg.checkpoint, given, cfg.weights))
    trained = read_metadata(cfg.checkpoint)
    size = OmegaConf.to_container(cfg, resolve=True)["img_size"]
    if size is None:
        size = list(model.default_cfg["input_size"][1:])  # that of training, where the file says it
    check_pixels("img_size", size)
    height, width = (size, size) if isinstance(size, int) else size

    path = Path(cfg.output_dir) / "model.pt2"
    error = export_program(model, path, (height, width))
    if not error < MAX_ERROR:
        path.unlink()
        raise SettingError(f"The exported program's logits differ by {error:.1e}; nothing was written.")
    inputs = "token ids" if takes_token_ids(model) else "images"
    print(f"{path}: {inputs} (B, {model.in_chans}, {height}, {width}) -> logits (B, {model.num_classes})")
    print(f"largest difference from the model's logits: {error:.0e} of the largest logit")
    if trained and trained.mean and trained.std:
        mean, std = (list(values[: model.in_chans]) for values in (trained.mean, trained.std))
        print(f"images from 0 to 1, normalised with mean {mean} and standard deviation {std}")


MAX_ERROR = 1e-4  # relative to the largest logit; the error of float32 rounding is a hundredth of this

main = entry("export")(export)

if __name__ == "__main__":
    main()
