"""Train a SOFT model: `python src/train.py [group=option ...] [key=value ...]`, settings in conf/train.yaml."""

from omegaconf import DictConfig, OmegaConf

from entrypoint import arguments, entry


def train(cfg: DictConfig) -> float | None:
    """One run, from its configuration to its best val/top1 in percent (what a sweep compares)."""
    # Imported here, so that --help, --cfg and typing errors do not wait for torch.
    import time
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from lightning.pytorch import seed_everything

    from soft.models.factory import create_from_config
    from soft.settings import check_whole
    from soft.training import report
    from soft.training.console import quiet_libraries
    from soft.training.loggers import finish_loggers
    from soft.training.module import ImageClassifier
    from soft.training.trainer import check_resume, create_trainer

    start = time.monotonic()
    quiet_libraries()
    recipe = OmegaConf.to_container(cfg, resolve=True)
    check_whole("seed", cfg.seed, least=0)
    seed_everything(cfg.seed, workers=True, verbose=False)
    check_resume(cfg.resume)

    hardware = arguments(recipe["trainer"])
    execution = {key: hardware.pop(key) for key in ("compile", "channels_last")}
    loggers = list(instantiate(cfg.logger).values())
    trainer, layout = create_trainer(
        cfg.data.batch_size,
        name=HydraConfig.get().runtime.choices.trainer,
        callbacks=instantiate(cfg.callbacks).values(),
        logger=loggers,
        enable_progress_bar="progress" in cfg.callbacks,
        enable_checkpointing="checkpoint" in cfg.callbacks,
        **hardware,
    )

    datamodule = instantiate(arguments(recipe["data"]))
    datamodule.prepare_data()
    datamodule.setup("fit")

    module = ImageClassifier(
        create_from_config(recipe["model"], datamodule.num_classes, datamodule.img_size),
        datamodule.augment,
        arguments(recipe["optimizer"]),
        arguments(recipe["schedule"]),
        layout,
        datamodule.steps_per_epoch,
        ema_decay=cfg.ema.decay,
        ema_warmup=cfg.ema.warmup,
        validate_raw=cfg.ema.validate_raw,
        seed=cfg.seed,
        recipe=recipe,
        **execution,
    )

    folder = Path(cfg.output_dir)
    OmegaConf.save(recipe, folder / "config.yaml")
    facts = report.describe_run(trainer, layout, datamodule, module, cfg.optimizer.lr, folder)
    report.print_summary(cfg.model.name, cfg.data.dataset, facts, datamodule.notes)
    with finish_loggers(loggers):
        for logger in loggers:
            logger.log_hyperparams({**recipe, "derived": facts})
        trainer.fit(module, datamodule, ckpt_path=cfg.resume, weights_only=True)
    top1 = report.best_top1(trainer)
    report.write_result(folder, top1, facts, trainer, time.monotonic() - start)
    report.print_result(trainer, folder, time.monotonic() - start)
    return top1


main = entry("train")(train)

if __name__ == "__main__":
    main()
