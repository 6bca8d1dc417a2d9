"""Evaluate a checkpoint: `python src/evaluate.py checkpoint=PATH [data=...]`, settings in conf/evaluate.yaml."""

from cli.entry import DictConfig, OmegaConf, entry


def evaluate(cfg: DictConfig) -> float:
    """Evaluate one checkpoint and return its top-1 in percent; write and print the result, with details in files."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from cli.checks import check_single
    from cli.command_line import ConfigError
    from cli.job_name import name_job
    from cli.recorded import build_recorded, evaluated_recipe, recorded_data, typed_command
    from cli.secrets import masked_loggers
    from soft.analysis.answers import AnswerRecorder
    from soft.analysis.details import weakest, write_pictures, write_tables
    from soft.data.classes import match_classes, unnamed_order
    from soft.data.loading import limit_note
    from soft.data.preprocessing import preprocessing_differences
    from soft.data.workers import explained_worker_errors
    from soft.errors import SettingError
    from soft.hardware.layout import check_validation_share
    from soft.launch.hardware import hardware_of_settings
    from soft.launch.trainer import create_trainer, lightning_options
    from soft.launch.trainer_settings import check_trainer_settings
    from soft.models.checkpoints import read_recipe
    from soft.models.factory import create_from_checkpoint, option_differences
    from soft.models.inference import optimise_for_inference
    from soft.models.metadata import read_metadata
    from soft.monitoring.attention_share import AttentionShare
    from soft.monitoring.console import quiet_libraries
    from soft.monitoring.evaluation import describe_evaluation, print_evaluation, write_evaluation
    from soft.monitoring.logged_evaluation import evaluation_conditions, evaluation_loggers, log_evaluation
    from soft.settings import check_whole
    from soft.training.evaluator import ImageEvaluator
    from soft.training.inputs import check_inputs

    quiet_libraries()
    check_single(cfg, "checkpoint")
    given, choices = OmegaConf.to_container(cfg, resolve=True), HydraConfig.get().runtime.choices
    check_whole("seed", given["seed"], low=0)
    check_trainer_settings(given["trainer"])
    if choices.logger == "csv":
        raise ConfigError("logger=csv adds nothing to evaluation.json; choose wandb, tensorboard, all or none.")
    loggers = [instantiate(node) for name, node in masked_loggers(given["logger"]).items() if name != "csv"]
    trained, metadata = read_recipe(cfg.checkpoint), read_metadata(cfg.checkpoint)
    options = {key: value for key, value in given["model"]["attention"].items() if value is not None}
    chosen = None if choices.model is None else {**given["model"], "attention": options}
    model = create_from_checkpoint(cfg.checkpoint, chosen, cfg.weights, attention_options=options)
    if cfg.optimise:
        model = optimise_for_inference(model)
    hardware = hardware_of_settings(choices.trainer, given["trainer"])
    recorder = AnswerRecorder()
    callbacks = [AttentionShare(), *([recorder] if cfg.details else [])]
    trainer = create_trainer(hardware, given, callbacks, **lightning_options(given["trainer"]))

    # Data: what was typed, or else what the checkpoint was trained on
    if choices.data is None and trained is None:
        raise SettingError(f"{cfg.checkpoint} does not say what it was trained on; add data=imagenet, for example.")
    if choices.data is None:
        datamodule = build_recorded(recorded_data(trained["data"], given["data"], cfg.checkpoint), cfg.checkpoint)
    else:
        datamodule = instantiate({key: value for key, value in given["data"].items() if value is not None})
    datamodule.prepare_data("validate")
    datamodule.setup("validate")
    check_inputs(model, datamodule)
    check_validation_share(datamodule.val_size, hardware.layout.devices)

    # Classes are matched by name; a note tells where images are prepared in another way than in the training
    names = metadata and metadata.class_names
    if names is None and trained is not None and trained["data"]["dataset"] == datamodule.dataset:
        names = unnamed_order(datamodule.dataset, datamodule.class_names)
    match = match_classes(names, model.num_classes, datamodule.class_names)
    differences = preprocessing_differences(metadata.to_dict(), datamodule.preprocessing) if metadata else []
    notes = [*datamodule.notes, match.note, *(f"Images are prepared in another way: {text}." for text in differences)]

    limit, devices = given["trainer"]["limit_val_batches"], hardware.layout.devices
    limited = limit_note(datamodule.val_size, datamodule.val_batch_size, devices, limit, datamodule.example_name)
    notes += [f"{limited}."] if limited else []
    changes = option_differences(metadata.model, options) if metadata and not chosen else []
    notes += [f"The model is another one than in training: {text}." for text in changes]

    settings = {} if chosen else {f"model.attention.{key}": value for key, value in options.items()}
    evaluator = ImageEvaluator(model, match.indices)
    recipe = evaluated_recipe(trained, given, chosen=[key for key in ("model", "data") if choices[key] is not None])
    conditions = evaluation_conditions(cfg.checkpoint, cfg.weights, typed_command(), trainer.strategy.root_device)
    job = name_job(Path(cfg.output_dir).absolute())
    name = job.name or " ".join(filter(None, (recipe.get("name"), Path(cfg.checkpoint).stem)))
    with evaluation_loggers(loggers, recipe, conditions, name, job.sweep), explained_worker_errors():
        trainer.validate(evaluator, datamodule, verbose=False)

        # The first rank writes the numbers before the pictures, so that no fault in drawing loses them
        ece, shown, folder, answers = None, {}, Path(cfg.output_dir), recorder.answers
        if answers:
            ece = answers.calibration_error()
            classes, more = write_tables(answers, match.names, match.indices, datamodule.sets.val, folder)
            shown = {"weakest classes": weakest(classes) or "none: no image was mistaken"}
            notes += more
        notes = [note for note in notes if note]
        result = describe_evaluation(trainer, evaluator, datamodule, cfg.checkpoint, cfg.weights, settings, notes, ece)
        write_evaluation(result, folder)
        if answers:
            write_pictures(answers, match.names, match.indices, datamodule, folder)
        if more := log_evaluation(loggers, result, folder, details=ece is not None):
            result["notes"] += more
            write_evaluation(result, folder)
        print_evaluation(result, folder, shown, datamodule.example_name, datamodule.size_unit)
    return result["top1"]


main = entry("evaluate")(evaluate)

if __name__ == "__main__":
    main()
