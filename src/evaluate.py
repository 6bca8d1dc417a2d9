"""Evaluate a checkpoint: `python src/evaluate.py checkpoint=PATH [data=...]`, settings in conf/evaluate.yaml."""

from omegaconf import DictConfig, OmegaConf

from cli.entry import entry


def evaluate(cfg: DictConfig) -> float:
    """Evaluate one checkpoint, print its metrics and write them to evaluation.json; return its top-1 in percent."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from cli.recorded import build_recorded
    from soft.data.workers import explained_worker_errors
    from soft.errors import SettingError
    from soft.hardware.layout import check_validation_share
    from soft.launch.trainer import choose_devices, create_trainer, lightning_options
    from soft.models.checkpoints import read_recipe
    from soft.models.factory import create_from_checkpoint
    from soft.models.inference import optimise_for_inference
    from soft.monitoring.console import quiet_libraries
    from soft.monitoring.evaluation import describe_evaluation, write_evaluation
    from soft.training.evaluator import ImageEvaluator

    quiet_libraries()
    given = OmegaConf.to_container(cfg, resolve=True)
    trained, config = read_recipe(cfg.checkpoint), given.get("model")
    model = create_from_checkpoint(cfg.checkpoint, config, cfg.weights)
    if cfg.optimise:
        model = optimise_for_inference(model)

    hardware = choose_devices(HydraConfig.get().runtime.choices.trainer, given["trainer"])
    trainer = create_trainer(hardware, recipe=given, **lightning_options(given["trainer"]))

    if "data" not in cfg and trained is None:
        raise SettingError(f"{cfg.checkpoint} does not say what it was trained on; add data=imagenet, for example.")
    datamodule = instantiate(given["data"]) if "data" in cfg else build_recorded(trained["data"], cfg.checkpoint)
    datamodule.prepare_data("validate")
    datamodule.setup("validate")
    check_validation_share(datamodule.val_size, hardware.layout.devices)

    if model.num_classes != datamodule.num_classes:
        raise SettingError(
            f"{cfg.checkpoint} classifies into {model.num_classes} classes and data={datamodule.dataset} has "
            f"{datamodule.num_classes}; choose the data it was trained on."
        )

    evaluator = ImageEvaluator(model)
    with explained_worker_errors():
        trainer.validate(evaluator, datamodule, verbose=False)
    name = (config or trained["model"])["name"]
    result = describe_evaluation(trainer, evaluator, datamodule, name, cfg.checkpoint, cfg.weights)
    write_evaluation(result, cfg.output_dir)
    return result["top1"]


main = entry("evaluate")(evaluate)

if __name__ == "__main__":
    main()
