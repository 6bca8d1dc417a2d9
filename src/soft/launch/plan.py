"""Plans a run: works out what its recipe means on its hardware, and what prevents it.

`plan_run` makes the plan once, before anything is trained. A launch prints the plan, refuses what cannot run and logs
its facts. A preflight plans for hardware and data that need not be on this machine, and prints all of the plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from timm.layers import to_2tuple

from soft.attention.kernels.availability import check_kernels
from soft.data.datasets import DOWNLOADS
from soft.data.loading import limit_note
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout, RankPlan, check_validation_share, plan_ranks
from soft.hardware.requirements import LaunchIssue, check_nodes
from soft.launch.hardware import Hardware, hardware_of_settings
from soft.launch.resources import Resources, check_wandb, find_resources
from soft.launch.trainer_settings import check_callbacks, check_trainer_settings
from soft.models.flops import count_macs
from soft.training.inputs import check_inputs, check_model_choice, input_shape
from soft.training.length import Length, training_length
from soft.training.optim import scaled_lr


@dataclass(frozen=True)
class Plan:
    """Plan of a run: what the run does, and findings that prevent it or that the user should know."""

    model: str
    params: int
    macs: int  # multiply-accumulates of one image
    data: str
    img_size: tuple[int, int]  # height, width
    example_name: str  # what an example of the data is called, such as image
    size_unit: str  # unit of img_size, such as px
    num_classes: int
    train_images: int | None  # None if the data is not on this machine, and no number is expected
    val_images: int | None
    notes: list[str]
    hardware: Hardware
    trainer: str  # name of the chosen trainer config
    precision: str
    gpu_arch: str | None
    lr: float  # at a global batch of `REFERENCE_BATCH`
    epochs: int
    steps_per_epoch: int | None
    steps: int | None
    resources: Resources
    folder: Path
    findings: list[LaunchIssue] = field(default_factory=list)

    @property
    def layout(self) -> BatchLayout:
        """Return how the global batch lies over the devices."""
        return self.hardware.layout

    @property
    def lr_scaled(self) -> float:
        """Return the learning rate at this run's global batch."""
        return scaled_lr(self.lr, self.layout.global_batch)

    @property
    def ranks(self) -> list[RankPlan]:
        """Return the plan of each process."""
        hardware = self.hardware
        return plan_ranks(hardware.layout, hardware.per_node, hardware.accelerator, hardware.indices)

    @property
    def exit_code(self) -> int:
        """Return 2 if the recipe cannot run as it stands, else 0, even if this machine lacks something for it."""
        return 2 if any(finding.kind == "error" for finding in self.findings) else 0

    @property
    def facts(self) -> dict[str, object]:
        """Return named facts that follow from the recipe and the machine, for result.json and the loggers."""
        memory = self.resources.memory
        return {
            "params": self.params,
            "macs": self.macs,
            "img_size": list(self.img_size),
            "example_name": self.example_name,
            "num_classes": self.num_classes,
            "train_images": self.train_images,
            "val_images": self.val_images,
            "global_batch": self.layout.global_batch,
            "devices": self.layout.devices,
            "per_device_batch": self.layout.per_device,
            "accumulate": self.layout.accumulate,
            "lr_base": self.lr,
            "lr_scaled": self.lr_scaled,
            "steps_per_epoch": self.steps_per_epoch,
            "steps": self.steps,
            "epochs": self.epochs,
            "precision": self.precision,
            "accelerator": self.hardware.accelerator,
            "folder": str(self.folder),
            **({"expected_memory": memory.peak, "device_memory": self.resources.device_memory} if memory else {}),
        }


def plan_run(
    recipe: Mapping[str, object],
    trainer_name: str,
    datamodule: LightningDataModule,
    build: Callable[[int, BatchLayout, Length | None], LightningModule],
    folder: Path,
    rehearse: bool = False,
) -> tuple[Plan, LightningModule]:
    """Return the plan of the run that `recipe` describes, and the module that it trains.

    Args:
        recipe: the resolved configuration, in plain containers.
        trainer_name: name of the chosen trainer config.
        datamodule: the data, which is set up here.
        build: function that makes the module from (number of classes, batch layout, length).
        folder: folder in which the run writes.
        rehearse: plan for hardware and data that need not be on this machine; what is missing becomes a finding.

    Raises:
        SettingError: a setting does not fit, or, without `rehearse`, this machine lacks something.
    """
    findings: list[LaunchIssue] = []
    settings = recipe["trainer"]
    check_trainer_settings(settings)
    check_callbacks(recipe)
    lacking: list[str] | None = [] if rehearse else None
    hardware = hardware_of_settings(trainer_name, settings, recipe["data"]["batch_size"], lacking)
    _check_kernels(recipe, hardware.accelerator, lacking)
    findings += [LaunchIssue("missing", text) for text in lacking or []]
    findings += check_nodes(hardware.nodes, hardware.per_node)
    wandb = check_wandb(recipe["logger"].get("wandb"), findings)
    if not rehearse:
        _refuse_missing(findings)

    classes, train, val = _read_data(datamodule, recipe["data"], findings, rehearse)
    if val is not None and not rehearse:
        check_validation_share(val, hardware.layout.devices)
    length = limited = None
    if val is not None:
        limit = settings.get("limit_val_batches")
        batch = datamodule.val_batch_size
        limited = limit_note(val, batch, hardware.layout.devices, limit, datamodule.example_name)
    if train is not None:
        length = training_length(train, hardware.layout, settings, recipe["schedule"]["epochs"])
    check_model_choice(recipe["model"]["name"], datamodule)
    module = build(classes, hardware.layout, length)
    check_inputs(module.model, datamodule)

    img_size = to_2tuple(datamodule.img_size)
    params = sum(parameter.numel() for parameter in module.model.parameters())
    plan = Plan(
        model=recipe["model"]["name"],
        params=params,
        macs=count_macs(module.model, input_shape(module.model, img_size)),
        data=datamodule.dataset,
        img_size=img_size,
        example_name=datamodule.example_name,
        size_unit=datamodule.size_unit,
        num_classes=classes,
        train_images=train,
        val_images=val,
        notes=[
            *getattr(datamodule, "notes", []),
            *getattr(module, "notes", []),
            *(length.notes if length else []),
            *filter(None, [limited]),
        ],
        hardware=hardware,
        trainer=trainer_name,
        precision=settings["precision"],
        gpu_arch=settings["gpu_arch"],
        lr=recipe["optimizer"]["lr"],
        epochs=length.epochs if length else settings["max_epochs"],
        steps_per_epoch=length.steps_per_epoch if length else None,
        steps=length.steps if length else None,
        resources=find_resources(recipe, hardware, datamodule, module, folder, wandb, findings, rehearse),
        folder=folder,
        findings=findings,
    )
    if not rehearse:
        _refuse_missing(findings)
    return plan, module


def _check_kernels(recipe: Mapping[str, object], accelerator: str, lacking: list[str] | None) -> None:
    """Refuse Triton kernels that this run's devices or precision do not allow, before anything is built."""
    if recipe["model"]["attention"].get("kernels") != "triton":
        return
    if recipe["trainer"]["precision"] == "64-true":
        raise SettingError(
            "`attention.kernels`=triton computes in float32, and trainer.precision=64-true in float64; take "
            "`attention.kernels`=auto."
        )
    arch = recipe["trainer"]["gpu_arch"]
    if arch is not None and int("".join(filter(str.isdigit, arch))) < 80:
        raise SettingError(
            f"`attention.kernels`=triton needs a GPU of compute capability 8.0 or more, and trainer.gpu_arch={arch}; "
            "take `attention.kernels`=auto."
        )
    try:
        check_kernels(torch.device(accelerator))
    except SettingError as error:
        if lacking is None:
            raise
        lacking.append(error.as_settings({"attention": "model.attention"}))


def _refuse_missing(findings: list[LaunchIssue]) -> None:
    for finding in findings:
        if finding.kind == "missing":
            raise SettingError(finding.text)


def _read_data(
    datamodule: LightningDataModule, settings: Mapping[str, object], findings: list[LaunchIssue], rehearse: bool
) -> tuple[int, int | None, int | None]:
    """Return (classes, training images, validation images).

    Images are counted. In a rehearsal without the data, the numbers are those that the settings expect, or None.

    Raises:
        SettingError: the data cannot be read, or, in a rehearsal, the number of classes is not known without it.
    """
    if not rehearse:
        datamodule.prepare_data()
        datamodule.setup("fit")
        return datamodule.num_classes, datamodule.train_size, datamodule.val_size
    try:
        datamodule.setup("fit")
    except SettingError as error:
        root = datamodule.options.get("root")
        here = isinstance(root, Path) and root.is_dir() and any(root.iterdir())
        if datamodule.dataset in DOWNLOADS:
            findings.append(
                LaunchIssue("missing", f"{datamodule.dataset} is not below data.root={root} yet; a launch fetches it.")
            )
        else:
            findings.append(LaunchIssue("error" if here else "missing", error.as_settings()))
        expected = settings.get("expected") or {}
        classes = settings["num_classes"] or expected.get("classes")
        if classes is None:
            raise SettingError(f"{error.message} Set data.num_classes for a preflight without the data.") from error
        return classes, expected.get("train"), expected.get("val")
    return datamodule.num_classes, datamodule.train_size, datamodule.val_size
