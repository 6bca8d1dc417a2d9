"""Ends a run cleanly on SIGTERM, SIGINT and SIGUSR1: after a checkpoint if it is training, at once before that.

Lightning's signal handlers broadcast to the other ranks, and hang when all ranks get the signal together. Here a
handler only notes the signal, and the ranks agree between two steps (`soft.runs.checkpointing.LastCheckpoint`). A step
that waits for a lost rank never ends, and Python runs no handler meanwhile; a thread therefore ends a process whose
step does not end in time.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

log = logging.getLogger(__name__)

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))


PATIENCE = 120.0  # seconds after a signal in which a step of several ranks has to end


class Stopped(SystemExit):
    """Exit of a run because of signal `number`; the exit code is 128 + number, as shells have it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class StopSignals:
    """The signal that has arrived, and whether it can wait for a checkpoint.

    A process has one instance, `SIGNALS`, because handlers belong to the process.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the first signal that arrived; 0: none yet
        self._process = 0
        self._trainer: Trainer | None = None
        self._obeyed = threading.Event()

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Handle signals within this context; do nothing outside the main thread, where Python allows no handlers."""
        self.received, self._process, self._trainer, self._obeyed = 0, os.getpid(), None, threading.Event()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            with self._watched() if hasattr(os, "register_at_fork") else nullcontext():
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait_for_checkpoint(self, trainer: Trainer | None) -> None:
        """Let signals wait until callbacks of `trainer` read `received`; with None, they end the process at once."""
        self._trainer = trainer

    def obey(self) -> None:
        """Note that the main thread follows a signal, so that it may take its time for a checkpoint."""
        self._obeyed.set()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        # The system's own handler writes each signal's number here at once, whatever the main thread waits for.
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(read, self._obeyed), daemon=True).start()
        try:
            yield
        finally:
            self._obeyed.set()
            signal.set_wakeup_fd(before)
            os.close(write)  # ends the thread

    def leave_to_parent(self) -> None:
        """Keep a forked process, such as a loader worker, from passing the signals that it gets to its parent."""
        if self._process:
            signal.set_wakeup_fd(-1)

    def _watch(self, pipe: int, obeyed: threading.Event) -> None:
        """End this process if a signal during training is not followed in time; on SIGUSR1, queue the job again."""
        with open(pipe, "rb", buffering=0) as signals:
            while number := int.from_bytes(signals.read(1)):
                trainer = self._trainer
                if number not in _SIGNALS or trainer is None or trainer.world_size == 1 or obeyed.wait(PATIENCE):
                    continue
                log.error(
                    "%s: the step has not ended within %.0f seconds, most likely because another rank is gone. Ends "
                    "without a new checkpoint; last.ckpt is the one to go on from.",
                    signal.Signals(number).name,
                    PATIENCE,
                )
                stopped = stopped_by(trainer, number)
                logging.shutdown()
                os._exit(stopped.code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked loader worker, which leaves the signal to its parent
            return
        if self._trainer is None:
            self.received = number
            raise Stopped(number)
        if self.received and number == signal.SIGINT:
            os._exit(128 + number)
        if not self.received and self._trainer.is_global_zero:
            # print is not used, because a handler may interrupt a print, and print must not be entered twice.
            again = " Again: stop now." if number == signal.SIGINT else ""
            text = f"\n{signal.Signals(number).name}: stopping after this step, with a checkpoint.{again}\n"
            with suppress(OSError):
                os.write(sys.stderr.fileno(), text.encode())
        self.received = self.received or number


SIGNALS = StopSignals()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SIGNALS.leave_to_parent)


def stopped_by(trainer: Trainer, number: int) -> Stopped:
    """Return the exception that ends this rank after its checkpoint.

    On SIGUSR1, rank 0 also puts the SLURM job back into its queue.
    """
    if number == getattr(signal, "SIGUSR1", None) and trainer.is_global_zero:
        requeue()
    stopped = Stopped(number)
    # Lightning kills a job if a rank that it started fails. This rank has not failed, so its exit code is 0.
    if trainer.global_rank and isinstance(trainer.strategy.cluster_environment, LightningEnvironment):
        stopped.code = 0
    return stopped


def requeue() -> None:
    """Put this SLURM job back into its queue; do nothing outside SLURM."""
    job = slurm_job()
    if job is None:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else None
    except OSError as error:
        problem = str(error)
    if problem is None:
        log.info("SLURM job %s is back in its queue.", job)
    else:
        log.warning("SLURM job %s was not requeued: %s", job, problem)


def slurm_job() -> str | None:
    """Return this job's number as `scontrol` takes it: 12, or 12_3 for a task of an array; None outside SLURM."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    return os.environ.get("SLURM_JOB_ID")
