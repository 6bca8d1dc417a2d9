"""The devices that a run gets, and whether this machine and this PyTorch build have them."""

import os

import torch

from soft.errors import SettingError
from soft.hardware.launcher import Launch, find_launch
from soft.settings import check_choice, check_whole

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")

# PyTorch 2.14's CUDA 12.6 builds are the last with kernels for these architectures.
_LEGACY_ARCHS = {"sm_50": "Maxwell", "sm_60": "P100", "sm_61": "Pascal", "sm_70": "V100"}
_LEGACY_INSTALL = "pip install 'torch==2.14.*' torchvision --index-url https://download.pytorch.org/whl/cu126"


def choose_accelerator(accelerator: str, setting: str = "trainer.accelerator") -> str:
    """Return the accelerator that `auto` or `gpu` stands for on this machine: `cuda`, `mps` or, for `auto`, `cpu`.

    Any other accelerator is returned as it is.

    Raises:
        SettingError: the accelerator is unknown; the message calls it `setting`.
    """
    check_choice(setting, accelerator, ACCELERATORS)
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            return "mps"
        return "cpu" if accelerator == "auto" else "cuda"
    return accelerator


def choose_single_device(accelerator: str, setting: str = "accelerator") -> torch.device:
    """Return the device of a command that uses a single one.

    Raises:
        SettingError: this machine has no such device, or this PyTorch build has no kernels for it.
    """
    kind = choose_accelerator(accelerator, setting)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        name = {"cuda": "a CUDA GPU", "mps": "an Apple GPU (MPS)"}[kind]
        raise SettingError(f"{setting}={accelerator} needs {name}, which this machine lacks; take {setting}=auto.")
    check_gpus(f"{setting}={accelerator}", kind, 1)
    return torch.device(kind)


def count_devices(
    accelerator: str, devices: int | str | list[int], oversubscribe: bool = False, launch: Launch | None = None
) -> int:
    """Return the number of processes on this node for a value of trainer.devices.

    Args:
        accelerator: as from `choose_accelerator`.
        devices: a number, a list of indices, -1 (all GPUs or CPU cores) or `auto`: as many as the launcher started,
            else all GPUs, or one process on the CPU.
        oversubscribe: allow more CPU processes than cores.
        launch: how this process was launched; None without a launcher.

    Raises:
        SettingError: `devices` is something else, or more than the CPU cores of this machine. `check_gpus` counts GPUs.
    """
    present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(accelerator, os.cpu_count() or 1)
    if devices == "auto" and launch is not None:
        return launch.per_node
    if devices == "auto":
        return 1 if accelerator == "cpu" else max(1, present)
    if devices == -1:
        return max(1, present)
    if isinstance(devices, list):
        _check_indices(accelerator, devices)
    wanted = len(devices) if isinstance(devices, list) else devices
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise SettingError(
            f"trainer.devices={devices!r} has to be a number of at least 1, 'auto', or a list of indices."
        )
    if accelerator == "cpu" and wanted > present and not oversubscribe:
        raise SettingError(
            f"trainer.devices={wanted} asks for more processes than the {present} CPU cores of this machine. "
            "Set trainer.devices lower, or take trainer=cpu_ddp, which allows it."
        )
    return wanted


def _check_indices(accelerator: str, devices: list[int]) -> None:
    whole = all(isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in devices)
    if not (devices and whole and len(set(devices)) == len(devices)):
        raise SettingError(f"trainer.devices={devices} has to list different devices by their numbers from 0.")
    if accelerator == "cpu":
        raise SettingError(
            f"trainer.devices={devices} lists devices by number, which a CPU has not; give the number of processes."
        )


def count_nodes(num_nodes: int | str, launch: Launch | None = None) -> int:
    """Return the number of machines for a value of trainer.num_nodes: a number, or `auto` for the launcher's."""
    if num_nodes == "auto":
        return launch.nodes if launch is not None else 1
    check_whole("trainer.num_nodes", num_nodes, low=1)
    return num_nodes


def cores_per_process(processes: int) -> int:
    """Return the CPU cores for each of `processes` on this machine.

    Only cores that this process may use are counted. A task of SLURM has all cores that SLURM gave it.
    """
    launch = find_launch()
    if launch is not None and launch.by == "SLURM" and "SLURM_CPUS_PER_TASK" in os.environ:
        return int(os.environ["SLURM_CPUS_PER_TASK"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores // processes


def check_gpus(
    trainer: str, accelerator: str, wanted: int, gpu_arch: str | None = None, devices: object = None
) -> None:
    """Refuse a run whose GPUs are not here, or whose GPUs this PyTorch build has no kernels for.

    Args:
        trainer: the user's choice for the message, such as `trainer=v100_ddp`.
        accelerator: as from `choose_accelerator`.
        wanted: GPUs on this node.
        gpu_arch: architecture that the trainer config is written for, such as `sm_70`; None checks the GPUs here alone.
        devices: trainer.devices, whose indices have to be there if it is a list.

    Raises:
        SettingError: GPUs or kernels are missing.
    """
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise SettingError(f"{trainer} needs an Apple GPU (MPS), which this machine lacks. Take trainer=auto.")
    if accelerator != "cuda":
        return
    present = torch.cuda.device_count()
    archs = [gpu_arch] if gpu_arch else []
    archs += ["sm_{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(present)]
    kernels = _missing_kernels(archs)
    if present < wanted:
        kind = {"sm_70": "V100 ", "sm_80": "A100 "}.get(gpu_arch or "", "")
        has = f"{present} CUDA GPU{'s' if present != 1 else ''}" if present else "no CUDA GPU"
        raise SettingError(
            f"{trainer} needs {wanted} {kind}GPU{'s' if wanted != 1 else ''} on each node, and this machine has {has}: "
            f"run it there, or take trainer=auto or a smaller trainer.devices. {kernels}".rstrip()
        )
    if isinstance(devices, list) and max(devices) >= present:
        numbers = "0" if present == 1 else f"0 to {present - 1}"
        raise SettingError(f"trainer.devices={devices} names a GPU that this machine lacks; its GPUs are {numbers}.")
    if kernels:
        raise SettingError(kernels)


def _version(arch: str) -> tuple[int, int]:
    """Return (9, 0) of sm_90, sm_90a or compute_90."""
    digits = arch.rpartition("_")[2].rstrip("af")
    return int(digits[:-1]), int(digits[-1])


def _missing_kernels(archs: list[str]) -> str:
    """Return a sentence if this PyTorch build has no kernels for one of `archs`, else an empty text."""
    if torch.version.hip:  # AMD's GPUs are called gfx90a and the like, and have no compute capability
        return ""
    # torch.cuda.get_arch_list() is empty on a machine without a GPU; these flags are there all the same.
    built = (getattr(torch._C, "_cuda_getArchFlags", lambda: None)() or "").split()
    for arch in archs:
        major, minor = _version(arch)
        # A kernel runs on its own minor version and on later ones of the same major version.
        kernels = [_version(b) for b in built if b.startswith("sm_")]
        if any(own == major and least <= minor for own, least in kernels):
            continue
        # From PTX, the intermediate code of CUDA, the driver makes kernels for any later version.
        if any(_version(b) <= (major, minor) for b in built if b.startswith("compute_")):
            continue
        if arch in _LEGACY_ARCHS:
            return (
                f"PyTorch {torch.__version__} has no kernels for {_LEGACY_ARCHS[arch]} GPUs ({arch}); the last builds "
                f"that do are PyTorch 2.14's for CUDA 12.6: {_LEGACY_INSTALL}"
            )
        return f"PyTorch {torch.__version__} has no kernels for {arch} GPUs (it has {', '.join(built) or 'none'})."
    return ""
