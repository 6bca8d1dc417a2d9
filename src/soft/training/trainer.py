"""A Lightning Trainer from the hardware half of a recipe, checked before it is built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from soft.errors import SettingError
from soft.hardware.devices import check_gpus, choose_accelerator, count_devices, count_nodes
from soft.hardware.launcher import check_launch, find_launch
from soft.hardware.layout import BatchLayout, lay_out_batch
from soft.hardware.memory import keep_freed_memory
from soft.settings import check_choice, check_number
from soft.training.checkpointing import AtomicCheckpointIO
from soft.training.distributed import Ranks, RestartableDDP, cluster_environment
from soft.training.sync_batchnorm import SyncBatchNorm

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed", "bf16-true")


@dataclass(frozen=True)
class Hardware:
    """The devices of a run, here or elsewhere."""

    accelerator: str  # cpu, cuda or mps
    per_node: int
    nodes: int
    layout: BatchLayout


def choose_hardware(
    global_batch: int | None = None,
    name: str = "trainer",
    accelerator: str = "auto",
    devices: int | str | list[int] = "auto",
    num_nodes: int | str = "auto",
    precision: str = "32-true",
    gpu_arch: str | None = None,
    max_batch_per_device: int = 128,
    oversubscribe: bool = False,
    device_memory: float | None = None,
    lacking: list[str] | None = None,
) -> Hardware:
    """The devices that these settings mean, and how the global batch lies over them.

    Args:
        global_batch: images per optimiser step; None when nothing is trained.
        name: the chosen trainer config, for messages.
        accelerator: `auto`, `cpu`, `gpu`, `cuda` or `mps`.
        devices: per node: a number, `auto`, -1 or a list of indices.
        num_nodes: a number, or `auto`: as many as torchrun or SLURM started this on.
        precision: one of Lightning's.
        gpu_arch: architecture the config is written for, such as `sm_70`.
        max_batch_per_device: images in one forward pass; more are accumulated.
        oversubscribe: allow more CPU processes than cores.
        device_memory: GiB of one device, where it is not here to be asked; for the preflight.
        lacking: takes what this machine or this PyTorch build lacks for them, which is an error without it.

    Raises:
        SettingError: a setting that does not fit, or what is lacking.
    """
    check_choice("trainer.precision", precision, PRECISIONS)
    if device_memory is not None:
        check_number("trainer.device_memory", device_memory, low=0.1)
    if gpu_arch == "sm_70" and precision.startswith("bf16"):
        raise SettingError(f"trainer.precision={precision} is not for V100 GPUs, which have no bfloat16; use 16-mixed.")
    accelerator = choose_accelerator(accelerator)
    launch = find_launch()
    count, nodes = count_devices(accelerator, devices, oversubscribe, launch), count_nodes(num_nodes, launch)
    try:
        check_gpus(f"trainer={name}", accelerator, count, gpu_arch)
    except SettingError as error:
        if lacking is None:
            raise
        lacking.append(str(error))
    world_size = count * nodes
    layout = lay_out_batch(world_size if global_batch is None else global_batch, world_size, max_batch_per_device)
    return Hardware(accelerator, count, nodes, layout)


def create_trainer(
    global_batch: int | None = None,
    name: str = "trainer",
    accelerator: str = "auto",
    devices: int | str | list[int] = "auto",
    num_nodes: int | str = "auto",
    strategy: str = "auto",
    precision: str = "32-true",
    gpu_arch: str | None = None,
    max_batch_per_device: int = 128,
    oversubscribe: bool = False,
    device_memory: float | None = None,
    sync_batchnorm: bool = False,
    recipe: Mapping[str, object] | None = None,
    callbacks: Iterable[Callback] = (),
    logger: Iterable[Logger] = (),
    **options: object,
) -> tuple[Trainer, BatchLayout]:
    """The Trainer on the hardware of `choose_hardware`, and how the global batch lies over it.

    Args:
        strategy: one of Lightning's names; `ddp` for several devices.
        sync_batchnorm: BatchNorm over the batches of all devices together.
        recipe: this process's configuration, which has to be that of every other rank.
        options: further arguments of `lightning.pytorch.Trainer`.
    """
    hardware = choose_hardware(
        global_batch,
        name,
        accelerator,
        devices,
        num_nodes,
        precision,
        gpu_arch,
        max_batch_per_device,
        oversubscribe,
        device_memory,
    )
    if hardware.accelerator == "cpu":
        keep_freed_memory()
    launch, count, nodes = find_launch(), hardware.per_node, hardware.nodes
    check_launch(launch, count, nodes)
    callbacks, plugins = list(callbacks), [cluster_environment(launch), AtomicCheckpointIO()]
    if count * nodes > 1:
        callbacks.append(Ranks(recipe or {}))
        if strategy in ("auto", "ddp"):
            strategy = RestartableDDP(launch)
        if sync_batchnorm:
            plugins.append(SyncBatchNorm(on_gpu=hardware.accelerator == "cuda"))
    trainer = Trainer(
        accelerator=hardware.accelerator,
        devices=devices if isinstance(devices, list) else count,
        num_nodes=nodes,
        strategy=strategy,
        plugins=plugins,
        precision=precision,
        accumulate_grad_batches=hardware.layout.accumulate,
        callbacks=callbacks,
        logger=list(logger),
        # Our samplers know their rank; Lightning's replacement pads, and loses its place on resume.
        use_distributed_sampler=False,
        **options,
    )
    # Lightning's handlers broadcast from within, and hang when all ranks get a signal; see soft.training.signals.
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer, hardware.layout
