"""Train a SOFT model: `python src/train.py [group=option ...] [key=value ...]`, settings in conf/train.yaml."""

from omegaconf import DictConfig, OmegaConf

from entrypoint import entry
from masking import mask_text, masked


def train(cfg: DictConfig) -> float | None:
    """One run, from its configuration to its best val/top1 in percent (what a sweep compares)."""
    # Imported here, so that --help, --cfg and typing errors do not wait for torch.
    import shlex
    import sys
    import time
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from lightning.pytorch import seed_everything

    from job_name import name_job
    from soft.data.workers import explained_worker_errors
    from soft.hardware.layout import BatchLayout, check_validation_share
    from soft.models.factory import create_from_config
    from soft.settings import check_whole
    from soft.training import preflight, report
    from soft.training.console import quiet_libraries
    from soft.training.environment import describe_environment
    from soft.training.loggers import finish_loggers, name_runs, resume_metrics, settings_to_filter
    from soft.training.module import ImageClassifier
    from soft.training.preflight_report import print_preflight
    from soft.training.resume import start_in
    from soft.training.runs import comparable
    from soft.training.signals import SIGNALS
    from soft.training.trainer import create_trainer

    start = time.monotonic()
    quiet_libraries()
    recipe = masked(OmegaConf.to_container(cfg, resolve=True))  # for files, loggers and checkpoints
    check_whole("seed", cfg.seed, least=0)
    seed_everything(cfg.seed, workers=True, verbose=False)

    name = HydraConfig.get().runtime.choices.trainer
    folder = Path(cfg.output_dir).absolute()
    datamodule = instantiate(OmegaConf.to_container(cfg.data, resolve=True))

    hardware = dict(recipe["trainer"])
    execution = {key: hardware.pop(key) for key in ("compile", "channels_last")}

    def build(classes: int, layout: BatchLayout, steps_per_epoch: int) -> ImageClassifier:
        return ImageClassifier(
            create_from_config(recipe["model"], classes, datamodule.img_size),
            datamodule.augment,
            recipe["optimizer"],
            recipe["schedule"],
            layout,
            steps_per_epoch,
            ema_decay=cfg.ema.decay,
            ema_warmup=cfg.ema.warmup,
            validate_raw=cfg.ema.validate_raw,
            seed=cfg.seed,
            max_steps=cfg.trainer.max_steps,
            max_nonfinite_steps=cfg.max_nonfinite_steps,
            recipe=recipe,
            **execution,
        )

    if cfg.preflight:
        plan = preflight.simulate(recipe, name, datamodule, build, folder)
        print_preflight(plan, folder / "preflight.txt", mask_text)
        return sys.exit(plan.exit_code) if plan.exit_code else None

    with SIGNALS.listen(), start_in(folder, cfg.resume, comparable(recipe)) as begin:
        if begin.finished:
            return report.read_result(folder)
        loggers = list(instantiate(cfg.logger).values())
        resume_metrics(loggers, begin.position)
        job = name_job(folder)
        name_runs(loggers, job.name or cfg.name, job.sweep, recipe.get("study", {}).get("name"))
        trainer, layout = create_trainer(
            cfg.data.batch_size,
            name=name,
            callbacks=instantiate(cfg.callbacks).values(),
            logger=loggers,
            enable_progress_bar="progress" in cfg.callbacks,
            enable_checkpointing="checkpoint" in cfg.callbacks,
            recipe={**recipe, "resume": str(begin.checkpoint)},
            **hardware | {"max_steps": -1},  # the module ends there
        )

        datamodule.prepare_data()
        datamodule.setup("fit")
        check_validation_share(datamodule.val_size, layout.devices)
        module = build(datamodule.num_classes, layout, datamodule.steps_per_epoch)

        report.write_config(folder, OmegaConf.to_yaml(recipe))
        facts = report.describe_run(trainer, layout, datamodule, module, cfg.optimizer.lr, folder)
        needs, warnings = preflight.inspect_launch(recipe, trainer, layout, datamodule, module, folder)
        facts |= needs
        report.print_summary(
            cfg.model.name, cfg.data.dataset, facts, masked([*datamodule.notes, *warnings, begin.note])
        )
        with finish_loggers(loggers), explained_worker_errors(folder / "checkpoints"):
            command = mask_text(shlex.join(["python", *sys.argv]))
            conditions = {"environment": describe_environment(trainer.strategy.root_device), "command": command}
            for logger in loggers:
                logger.log_hyperparams({**settings_to_filter(recipe), "derived": facts, **conditions})
            trainer.fit(module, datamodule, ckpt_path=begin.checkpoint, weights_only=True)
        top1 = report.best_top1(trainer)
        report.write_result(folder, top1, facts, trainer, time.monotonic() - start)
        report.print_result(trainer, folder, time.monotonic() - start)
        return top1


main = entry("train")(train)

if __name__ == "__main__":
    main()
