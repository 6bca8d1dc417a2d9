"""Train a SOFT model: `python src/train.py [group=option ...] [key=value ...]`, settings in conf/train.yaml."""

from cli.entry import DictConfig, OmegaConf, entry
from cli.secrets import mask_text, masked, masked_loggers


def train(cfg: DictConfig) -> float | None:
    """Train one run, and return the best value of its monitored metric, which a sweep compares."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from functools import partial
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from cli.checkpoint_model import check_checkpoint
    from cli.job_name import name_job
    from cli.recorded import own_words, typed_command
    from soft.launch.fit import begin, fit
    from soft.launch.plan import plan_run
    from soft.launch.plan_report import print_plan, print_preflight
    from soft.launch.trainer import create_trainer, lightning_options
    from soft.monitoring.loggers import prepare_loggers
    from soft.monitoring.summary import print_result, summarise_run
    from soft.runs.result import best_value, read_result, write_config, write_result
    from soft.runs.resume import start_in
    from soft.training.build import build_module
    from soft.training.module import ImageClassifier

    check_checkpoint(cfg)
    recipe = masked(OmegaConf.to_container(cfg, resolve=True))  # for files, loggers and checkpoints
    folder, trainer_name = Path(cfg.output_dir).absolute(), HydraConfig.get().runtime.choices.trainer
    clock = begin(cfg.seed)

    # Data, and how to build the model, which has to know how many classes the data has
    data = instantiate(OmegaConf.to_container(cfg.data, resolve=True))
    build = partial(build_module, ImageClassifier, recipe, data.augment, data.img_size, datamodule=data)

    # Plan
    if cfg.preflight:
        plan, _ = plan_run(recipe, trainer_name, data, partial(build, checkpoint=cfg.checkpoint), folder, rehearse=True)
        print_preflight(plan, folder / "preflight.txt", mask_text)
        raise SystemExit(plan.exit_code)
    with start_in(folder, cfg.resume, recipe, own_words()) as start:
        if start.finished:
            return best_value(read_result(folder))
        begun = partial(build, checkpoint=None if start.checkpoint else cfg.checkpoint)
        plan, module = plan_run(recipe, trainer_name, data, begun, folder)

        # Loggers, callbacks and trainer
        job, loggers = name_job(folder), instantiate(masked_loggers(OmegaConf.to_container(cfg.logger, resolve=True)))
        loggers = prepare_loggers(loggers.values(), start.position, job.name or recipe["name"], job.sweep, recipe)
        callbacks = instantiate(cfg.callbacks).values()
        identity = {**recipe, "resume": str(start.checkpoint)}  # this has to be the same on every rank
        trainer = create_trainer(plan.hardware, identity, callbacks, loggers, **lightning_options(recipe["trainer"]))

        # Fit, and its result
        write_config(folder, OmegaConf.to_yaml(recipe))
        print_plan(plan, [start.note], mask_text)
        fit(trainer, module, data, plan.facts, start.checkpoint, typed_command())
        result = summarise_run(trainer, folder, plan.facts, clock.seconds)
        write_result(folder, result)
        print_result(trainer, folder, result)
        return result["best"]


main = entry("train")(train)

if __name__ == "__main__":
    main()
