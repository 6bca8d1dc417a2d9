"""Makes the processes of one distributed run find each other, and end together after an error.

Other ways in which a process ends the others: `soft.hardware.launcher.end_with_parent` when the process that started it
is gone, `soft.runs.signals` after a signal, and `cli.sweep_jobs.run_tree` for what a job of a sweep leaves behind.
"""

import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy

from soft.errors import SettingError, first_few
from soft.hardware.launcher import Launch, fresh_store, has_agent_store, lost_another
from soft.runs.identity import flatten

log = logging.getLogger(__name__)


def cluster_environment(launch: Launch | None) -> ClusterEnvironment:
    """Return Lightning's cluster environment for `launch`.

    By itself, Lightning would take every SLURM allocation for a launcher.
    """
    if launch is not None and launch.by == "torchrun":
        return TorchElasticEnvironment()
    if launch is not None and launch.by == "SLURM":
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


class RestartableDDP(DDPStrategy):
    """Lightning's DDP strategy, except that the ranks also find each other after torchrun has restarted them.

    Gradients are views of the buckets that the ranks exchange, which saves a copy of the gradients.

    Args:
        launch: how this process was started; None without a launcher.
        options: further arguments of `DDPStrategy`.
    """

    def __init__(self, launch: Launch | None = None, **options: object):
        super().__init__(gradient_as_bucket_view=True, **options)
        self.launch = launch

    def setup_distributed(self) -> None:
        launch = self.launch
        if launch is not None and launch.by == "torchrun" and has_agent_store() and not dist.is_initialized():
            dist.init_process_group(
                self._get_process_group_backend(),
                store=fresh_store(launch),
                rank=launch.rank,
                world_size=launch.nodes * launch.per_node,
                timeout=self._timeout,
                device_id=None if self.root_device.type == "cpu" else self.root_device,
            )
        super().setup_distributed()


class Ranks(Callback):
    """Callback that refuses ranks which would train different things, and ends all ranks when one fails.

    Args:
        recipe: this rank's resolved configuration, in plain containers.
        patience: seconds that a failed rank gets to end by itself before it is forced to end.
    """

    def __init__(self, recipe: Mapping[str, object], patience: float = 10.0):
        self.recipe = recipe
        self.patience = patience
        self._watch: threading.Thread | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        children = getattr(trainer.strategy.launcher, "procs", [])
        if children and self._watch is None:
            self._watch = threading.Thread(target=_watch, args=(children,), daemon=True)
            self._watch.start()
        if trainer.world_size > 1:
            check_same_recipe(self.recipe)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.world_size == 1 or not isinstance(exception, Exception):
            return
        if self._watch is not None and lost_another(exception):
            self._watch.join(5)  # the watch says which process ended
        threading.Thread(target=self._end, args=(exception,), daemon=True).start()

    def _end(self, exception: Exception) -> None:
        time.sleep(self.patience)
        log.error("This process could not end by itself after this error:", exc_info=exception)
        logging.shutdown()
        os._exit(1)


def _watch(children: list) -> None:
    """Log the failure of a process that Lightning started; Lightning itself ends the others without a message."""
    while True:
        codes = [child.poll() for child in children]
        for rank, code in enumerate(codes, start=1):
            if code:
                return log.error("The process of rank %d %s; this ends the run.", rank, _describe(code))
        if None not in codes:
            return None
        time.sleep(0.5)


def _describe(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), which often means that the machine ran out of memory"
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def check_same_recipe(recipe: Mapping[str, object]) -> None:
    """Refuse to go on unless every rank has the same configuration.

    Raises:
        SettingError: the configurations differ. All ranks raise it, with the settings that differ.
    """
    text = json.dumps(recipe, sort_keys=True, default=str)
    digests = _gather(hashlib.sha256(text.encode()).hexdigest())
    if len(set(digests)) == 1:
        return
    other = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
    recipes = _gather(json.loads(text))
    first, second = (dict(flatten(recipes[rank])) for rank in (0, other))
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    shown = [f"{key} ({first.get(key)!r} and {second.get(key)!r})" for key in keys]
    raise SettingError(
        f"Ranks 0 and {other} would not train the same: they differ in {first_few(shown)}. Start every rank with the "
        "same settings."
    )


def _gather(value: object) -> list:
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
