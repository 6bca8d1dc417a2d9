"""Evaluate a checkpoint: `python src/evaluate.py checkpoint=PATH [data=...]`, settings in conf/evaluate.yaml."""

from omegaconf import DictConfig, OmegaConf

from entrypoint import entry


def evaluate(cfg: DictConfig) -> float:
    """val/top1 in percent of one checkpoint; also writes evaluation.json and prints a table."""
    # Imported here, so that --help, --cfg and typing errors do not wait for torch.
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from recorded import build_recorded
    from soft.data.workers import explained_worker_errors
    from soft.errors import SettingError
    from soft.hardware.layout import check_validation_share
    from soft.models.checkpoints import read_recipe
    from soft.models.factory import create_from_checkpoint
    from soft.models.inference import optimise_for_inference
    from soft.training import report
    from soft.training.console import quiet_libraries
    from soft.training.evaluator import ImageEvaluator
    from soft.training.trainer import create_trainer

    quiet_libraries()
    trained = read_recipe(cfg.checkpoint)
    config = OmegaConf.to_container(cfg.model, resolve=True) if "model" in cfg else None
    model = create_from_checkpoint(cfg.checkpoint, config, cfg.weights)
    if cfg.optimise:
        model = optimise_for_inference(model)

    hardware = {key: cfg.trainer[key] for key in HARDWARE}
    trainer, layout = create_trainer(
        name=HydraConfig.get().runtime.choices.trainer,
        enable_checkpointing=False,
        # Not all of cfg, whose trainer refers to a schedule that an evaluation does not have.
        recipe={
            **{key: cfg[key] for key in ("checkpoint", "weights", "optimise")},
            "model": config,
            "trainer": hardware,
        },
        **hardware,
    )

    if "data" not in cfg and trained is None:
        raise SettingError(f"{cfg.checkpoint} does not say what it was trained on; add data=imagenet, for example.")
    if "data" in cfg:
        datamodule = instantiate(OmegaConf.to_container(cfg.data, resolve=True))
    else:
        datamodule = build_recorded(trained["data"], cfg.checkpoint)
    datamodule.prepare_data("validate")
    datamodule.setup("validate")
    check_validation_share(datamodule.val_size, layout.devices)

    if model.num_classes != datamodule.num_classes:
        raise SettingError(
            f"{cfg.checkpoint} classifies into {model.num_classes} classes and data={datamodule.dataset} has "
            f"{datamodule.num_classes}; choose the data it was trained on."
        )

    evaluator = ImageEvaluator(model)
    with explained_worker_errors():
        trainer.validate(evaluator, datamodule, verbose=False)
    name = (config or trained["model"])["name"]
    result = report.describe_evaluation(trainer, evaluator, datamodule, name, cfg.checkpoint, cfg.weights)
    report.write_evaluation(result, cfg.output_dir)
    return result["top1"]


HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision", "gpu_arch", "oversubscribe")

main = entry("evaluate")(evaluate)

if __name__ == "__main__":
    main()
