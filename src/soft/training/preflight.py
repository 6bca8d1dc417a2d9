"""The preflight: what a recipe comes to on its hardware, and what stands against a launch.

Every launch runs `inspect_launch`; `simulate` does the same for hardware and data that need not be here.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from timm.layers import to_2tuple

from soft.data.datasets import DOWNLOADS
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout
from soft.hardware.memory import Memory, estimate_memory
from soft.hardware.preflight import (
    Finding,
    RankPlan,
    answers,
    check_disk,
    check_memory,
    check_nodes,
    device_memory,
    plan_ranks,
)
from soft.training.loggers import resolve_wandb_mode, wandb_server
from soft.training.optim import scaled_lr
from soft.training.trainer import Hardware, choose_hardware

# A launch on CPUs does without the estimate for smaller models: it would be most of their start.
SMALL = 5e6  # parameters


@dataclass(frozen=True)
class Resources:
    """What one process and its folder need, and have. None: not known."""

    memory: Memory | None
    device_memory: int | None
    checkpoint: int | None  # bytes of one
    checkpoints: int  # that are there at the same time
    disk_free: int
    wandb: str  # what becomes of its logs


@dataclass(frozen=True)
class Preflight:
    """What a launch would do.

    Attributes:
        facts: by name, as of `soft.training.report.describe_run`.
        findings: what stands against it.
    """

    facts: dict[str, object]
    hardware: Hardware
    resources: Resources
    ranks: list[RankPlan]
    findings: list[Finding]

    @property
    def exit_code(self) -> int:
        """2 if the recipe cannot run as it stands; 0 also where only this machine lacks something for it."""
        return 2 if any(finding.kind == "error" for finding in self.findings) else 0


def simulate(
    recipe: Mapping[str, object],
    trainer_name: str,
    datamodule: LightningDataModule,
    build: Callable[[int, BatchLayout, int], LightningModule],
    folder: Path,
) -> Preflight:
    """Everything that a launch of `recipe` would find and do, short of doing it.

    Args:
        recipe: resolved, as plain containers.
        trainer_name: the chosen trainer config.
        datamodule: not set up yet; data that is not here is taken to be as `recipe` expects it.
        build: (classes, batch layout, steps per epoch) -> the module that a launch would train.
        folder: where a launch would write.

    Raises:
        SettingError: a setting that does not fit, as at a launch.
    """
    lacking: list[str] = []
    settings = recipe["trainer"]
    hardware = choose_hardware(
        recipe["data"]["batch_size"],
        trainer_name,
        **{key: settings[key] for key in inspect.signature(choose_hardware).parameters if key in settings},
        lacking=lacking,
    )
    findings = [Finding("missing", text) for text in lacking]
    classes, train, val = _read_data(datamodule, recipe["data"], findings)
    batch = hardware.layout.global_batch
    if train is not None and train < batch:
        raise SettingError(f"data.batch_size={batch} is more than the {train} training images; an epoch has no step.")
    steps = train // batch if train else None
    module = build(classes, hardware.layout, steps or 1)
    resources = _inspect(recipe, hardware, datamodule, module, folder, findings)
    epochs, max_steps = settings["max_epochs"], settings["max_steps"]
    total = None if steps is None else steps * epochs if max_steps < 0 else min(steps * epochs, max_steps)
    facts = {
        "model": recipe["model"]["name"],
        "params": sum(parameter.numel() for parameter in module.model.parameters()),
        "img_size": list(to_2tuple(datamodule.img_size)),
        "num_classes": classes,
        "train_images": train,
        "val_images": val,
        "data_notes": getattr(datamodule, "notes", []),
        "lr_base": recipe["optimizer"]["lr"],
        "lr_scaled": scaled_lr(recipe["optimizer"]["lr"], batch),
        "steps_per_epoch": steps,
        "steps": total,
        "epochs": epochs,
        "precision": settings["precision"],
        "trainer": trainer_name,
        "gpu_arch": settings["gpu_arch"],
        "data": datamodule.dataset,
        "folder": str(folder),
    }
    indices = settings["devices"] if isinstance(settings["devices"], list) else None
    ranks = plan_ranks(hardware.layout, hardware.per_node, hardware.accelerator, indices)
    return Preflight(facts, hardware, resources, ranks, findings)


def inspect_launch(
    recipe: Mapping[str, object],
    trainer: Trainer,
    layout: BatchLayout,
    datamodule: LightningDataModule,
    module: LightningModule,
    folder: Path,
) -> tuple[dict[str, object], list[str]]:
    """(facts, warnings) of a run that is about to start, on its first rank.

    Raises:
        SettingError: the launcher's processes are not those of the settings.
    """
    if not trainer.is_global_zero:
        return {}, []
    findings: list[Finding] = []
    accelerator = type(trainer.accelerator).__name__.removesuffix("Accelerator").lower()
    hardware = Hardware(accelerator, trainer.num_devices, trainer.num_nodes, layout)
    small = accelerator == "cpu" and sum(parameter.numel() for parameter in module.model.parameters()) < SMALL
    resources = _inspect(recipe, hardware, datamodule, module, folder, findings, estimate=not small)
    for finding in findings:
        if finding.kind == "missing":
            raise SettingError(finding.text)
    memory = resources.memory
    facts = {"expected_memory": memory.peak, "device_memory": resources.device_memory} if memory else {}
    # Memory is an estimate: too little is no more than a warning, once a user has started the run.
    return facts, [finding.text for finding in findings]


def _read_data(
    datamodule: LightningDataModule, settings: Mapping[str, object], findings: list[Finding]
) -> tuple[int, int | None, int | None]:
    """(classes, training images, validation images): counted, else expected, else None."""
    try:
        datamodule.setup("fit")
    except SettingError as error:
        root = datamodule.options.get("root")
        here = isinstance(root, Path) and root.is_dir() and any(root.iterdir())
        if datamodule.dataset in DOWNLOADS:
            findings.append(
                Finding("missing", f"{datamodule.dataset} is not below data.root={root} yet; a launch fetches it.")
            )
        else:
            findings.append(Finding("error" if here else "missing", error.as_settings()))
        expected = settings.get("expected") or {}
        classes = settings["num_classes"] or expected.get("classes")
        if classes is None:
            raise SettingError(f"{error.message} Set data.num_classes for a preflight without the data.") from error
        return classes, expected.get("train"), expected.get("val")
    return datamodule.num_classes, datamodule.train_size, datamodule.val_size


def _inspect(
    recipe: Mapping[str, object],
    hardware: Hardware,
    datamodule: LightningDataModule,
    module: LightningModule,
    folder: Path,
    findings: list[Finding],
    estimate: bool = True,
) -> Resources:
    """What a launch and its simulation look at alike; adds to `findings`."""
    findings += check_nodes(hardware.nodes, hardware.per_node)
    settings = recipe["trainer"]
    available = device_memory(hardware.accelerator, hardware.per_node, settings["device_memory"])
    memory = None
    if estimate:
        try:
            with isolate_rng():
                memory = estimate_memory(
                    module,
                    (3, *to_2tuple(datamodule.img_size)),
                    hardware.layout,
                    datamodule.val_batch_size,
                    settings["precision"],
                    gpu=hardware.accelerator == "cuda",
                    ddp=hardware.layout.devices > 1,
                )
        except Exception as error:  # whatever an operation without a shape function raises; training does without it
            findings.append(
                Finding("warning", f"The memory of a step is not known: {type(error).__name__}: {error}".split("\n")[0])
            )
        else:
            findings += check_memory(memory, available)

    callbacks = recipe["callbacks"].values()
    kept = sum(max(1, c.get("save_top_k") or 1) for c in callbacks if c["_target_"].endswith("Checkpoint"))
    count = 2 * kept  # beside each one its successor, or its predecessor
    weights = sum(tensor.nbytes for tensor in (*module.model.parameters(), *module.model.buffers()))
    size = memory.checkpoint if memory else weights * 4  # and averages, and two moments
    free, notes = check_disk(folder, size * count)
    findings += notes
    return Resources(memory, available, size, count, free, _check_wandb(recipe["logger"].get("wandb"), findings))


def _check_wandb(settings: Mapping[str, object] | None, findings: list[Finding]) -> str:
    if settings is None:
        return "off"
    try:
        mode = resolve_wandb_mode(settings["mode"])
    except SettingError as error:
        findings.append(Finding("missing", str(error)))
        return "online, without a key"
    if mode != "online":
        return mode
    server = wandb_server()
    if answers(server):
        return f"online, {server} answers"
    findings.append(
        Finding(
            "warning",
            f"W&B at {server} does not answer. logger.wandb.mode=offline keeps the run in its folder, from where "
            "`wandb sync` uploads it.",
        )
    )
    return f"online, {server} does not answer"
