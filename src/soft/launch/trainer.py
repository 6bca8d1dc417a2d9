"""Creates the Lightning Trainer of a run on its hardware."""

import inspect
from collections.abc import Iterable, Mapping
from datetime import timedelta

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger

from soft.hardware.float32 import multiply_float32_as
from soft.hardware.launcher import find_launch
from soft.hardware.memory import keep_freed_memory
from soft.launch.distributed import Ranks, RestartableDDP, cluster_environment
from soft.launch.hardware import Hardware, choose_hardware
from soft.runs.checkpointing import AtomicCheckpointIO
from soft.training.sync_batchnorm import SyncBatchNorm

# Settings of the group `trainer` that choose the devices or are for the module, and not for `create_trainer`.
_OF_OTHERS = {*inspect.signature(choose_hardware).parameters, "compile", "channels_last", "max_steps"} - {"precision"}


def lightning_options(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of the group `trainer` that `create_trainer` takes."""
    return {key: value for key, value in settings.items() if key not in _OF_OTHERS}


def create_trainer(
    hardware: Hardware,
    recipe: Mapping[str, object] | None = None,
    callbacks: Iterable[Callback] = (),
    logger: Iterable[Logger] = (),
    strategy: str = "auto",
    precision: str = "32-true",
    float32: str = "ieee",
    sync_batchnorm: bool = False,
    timeout: float = 30,
    **options: object,
) -> Trainer:
    """Return a Trainer on `hardware`.

    Args:
        hardware: the devices, and the layout of the batch over them.
        recipe: this process's configuration, which has to equal that of every other rank.
        callbacks: the run's callbacks, the progress bar among them.
        logger: the run's loggers.
        strategy: Lightning's name of a strategy; `ddp` for several devices.
        precision: Lightning's name of a precision.
        float32: how GPUs multiply float32 numbers in this process, see `multiply_float32_as`.
        sync_batchnorm: take BatchNorm's statistics over the batches of all devices together.
        timeout: minutes that a rank waits for the others before the run ends.
        options: further arguments of `lightning.pytorch.Trainer`.
    """
    multiply_float32_as(float32, "trainer.float32")
    if hardware.accelerator == "cpu":
        keep_freed_memory()
    launch, several = find_launch(), hardware.per_node * hardware.nodes > 1
    callbacks, plugins = list(callbacks), [cluster_environment(launch), AtomicCheckpointIO()]
    if several:
        callbacks.append(Ranks(recipe or {}))
        if strategy in ("auto", "ddp"):
            strategy = RestartableDDP(launch, timeout=timedelta(minutes=timeout))
        if sync_batchnorm:
            plugins.append(SyncBatchNorm(on_gpu=hardware.accelerator == "cuda"))
    trainer = Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.indices or hardware.per_node,
        num_nodes=hardware.nodes,
        strategy=strategy,
        plugins=plugins,
        precision=precision,
        accumulate_grad_batches=hardware.layout.accumulate,
        callbacks=callbacks,
        logger=list(logger),
        # Our samplers know their rank; Lightning's replacement would pad, and lose its place on resume.
        use_distributed_sampler=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        **options,
    )
    # Lightning's signal handlers broadcast, and hang when all ranks get the signal; see soft.runs.signals.
    trainer._signal_connector.register_signal_handlers = lambda: None
    # With several ranks, Lightning would ask rank 0 before every batch whether it has got SIGTERM, and wait for the
    # device each time. No handler of Lightning's is there to note one.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer
