"""Chooses and checks the devices of a run before anything is built on them."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

from soft.errors import SettingError
from soft.hardware.devices import check_gpus, choose_accelerator, count_devices, count_nodes
from soft.hardware.launcher import check_launch, find_launch
from soft.hardware.layout import BatchLayout, lay_out_batch
from soft.settings import check_choice, check_number

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed", "bf16-true")


@dataclass(frozen=True)
class Hardware:
    """The devices of a run, on this machine or elsewhere."""

    accelerator: str  # cpu, cuda or mps
    per_node: int
    nodes: int
    layout: BatchLayout
    indices: list[int] | None = None  # numbers of a node's devices; None for 0, 1, 2 ...


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
    """Return the devices that the settings of a trainer ask for, and how the global batch lies over them.

    Args:
        global_batch: images per optimiser step; None when nothing is trained.
        name: name of the chosen trainer config, for messages.
        accelerator: `auto`, `cpu`, `gpu`, `cuda` or `mps`.
        devices: devices per node: a number, a list of indices, -1 for all, or `auto`, see `count_devices`.
        num_nodes: a number, or `auto` for as many nodes as torchrun or SLURM has started this run on.
        precision: one of `PRECISIONS`.
        gpu_arch: GPU architecture for which the config is written, such as `sm_70`.
        max_batch_per_device: images in one forward pass; a larger share of the batch is accumulated over several.
        oversubscribe: allow more CPU processes than cores.
        device_memory: GiB of one device, for a preflight on a machine without such a device.
        lacking: a list to which messages about what this machine or PyTorch build lacks are added; None to raise them.

    Raises:
        SettingError: a setting does not fit, or, without `lacking`, this machine or PyTorch build lacks something.
    """
    check_choice("trainer.precision", precision, PRECISIONS)
    if device_memory is not None:
        check_number("trainer.device_memory", device_memory, low=0.1)
    if gpu_arch is not None and not re.fullmatch(r"sm_\d{2,3}[af]?", str(gpu_arch)):
        raise SettingError(f"trainer.gpu_arch={gpu_arch!r} has to be a GPU architecture such as sm_70, or null.")
    if gpu_arch == "sm_70" and precision.startswith("bf16"):
        raise SettingError(f"trainer.precision={precision} is not for V100 GPUs, which have no bfloat16; use 16-mixed.")
    accelerator = choose_accelerator(accelerator)
    launch = find_launch()
    count, nodes = count_devices(accelerator, devices, oversubscribe, launch), count_nodes(num_nodes, launch)
    try:
        check_gpus(f"trainer={name}", accelerator, count, gpu_arch, devices)
    except SettingError as error:
        if lacking is None:
            raise
        lacking.append(str(error))
    world_size = count * nodes
    layout = lay_out_batch(world_size if global_batch is None else global_batch, world_size, max_batch_per_device)
    indices = devices if isinstance(devices, list) else None
    return Hardware(accelerator, count, nodes, layout, indices)


def hardware_of_settings(
    name: str, settings: Mapping[str, object], global_batch: int | None = None, lacking: list[str] | None = None
) -> Hardware:
    """Return the hardware that the settings of the group `trainer` ask for, see `choose_hardware`.

    Args:
        name: the chosen trainer config, for messages.
        settings: the settings of the group; those that are not about hardware are ignored.
        global_batch: images per optimiser step; None when nothing is trained.
        lacking: a list to which messages about what is missing here are added; None to raise them.

    Raises:
        SettingError: as in `choose_hardware`, or, without `lacking`, the processes of the run were not started as the
            settings say.
    """
    names = inspect.signature(choose_hardware).parameters
    given = {key: settings[key] for key in names if key in settings}
    hardware = choose_hardware(global_batch, name, **given, lacking=lacking)
    if lacking is None:
        check_launch(find_launch(), hardware.per_node, hardware.nodes)
    return hardware


def hardware_of_arguments(
    global_batch: int | None,
    accelerator: str,
    devices: int | str | list[int],
    precision: str,
    max_batch_per_device: int = 128,
) -> Hardware:
    """Return the hardware that the arguments of a call ask for, see `choose_hardware`.

    Raises:
        SettingError: an argument does not fit, or a launcher has started another number of processes.
    """
    hardware = choose_hardware(
        global_batch, "trainer", accelerator, devices, precision=precision, max_batch_per_device=max_batch_per_device
    )
    launch, asked = find_launch(), (hardware.per_node, hardware.nodes)
    if launch is not None and launch.by != "Lightning" and (launch.per_node, launch.nodes) != asked:
        raise SettingError(
            f"{launch.by} started {launch.per_node} processes on each of {launch.nodes} nodes, and devices={devices!r} "
            f"is for {hardware.per_node}; give devices='auto'."
        )
    return hardware
