"""What an entry point does differently as one of several processes. The first one loads nothing heavy for it."""

import ctypes
import functools
import logging
import os
import secrets
import signal
import sys
import time

from cli.safe_names import inside

# Set by torchrun and Lightning, and by srun.
_LAUNCHED = ("LOCAL_RANK", "SLURM_STEP_ID")
# In the environment of a sweep's jobs: the sweep's process id.
SWEEP = "SOFT_SWEEP"


@functools.cache
def this_launch():
    """`soft.hardware.launch.find_launch()`; None, without loading the library, where nothing hints at a launcher."""
    if not any(name in os.environ for name in _LAUNCHED):
        return None
    from soft.hardware.launch import find_launch

    return find_launch()


def rank() -> int:
    """Of this process among those of its run."""
    launch = this_launch()
    return launch.rank if launch else 0


@functools.cache
def run_id() -> str:
    """The last part of a run's folder: the same on all ranks, and after a launcher's restart.

    Elsewhere the time, and a random part that keeps apart what starts in the same second.
    """
    launch = this_launch()
    if launch and launch.run_id:
        return inside(launch.run_id, "--rdzv-id")
    own = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(2)}"
    if launch and launch.by == "torchrun":
        from soft.hardware.launch import agree_on_name

        return agree_on_name(own)
    return own


def log_name(name: str) -> str:
    """`name` for the first rank, `name_rank3` for another."""
    return f"{name}_rank{rank()}" if rank() else name


def end_with_launcher() -> None:
    """A rank does not outlive what started it."""
    launch = this_launch()
    if launch and launch.by != "SLURM":  # which sees to that itself
        from soft.hardware.launch import end_with_parent

        end_with_parent()


def end_with_sweep() -> None:
    """A job of a sweep leaves nothing behind that writes into its folder while the sweep, killed, is started again."""
    if SWEEP in os.environ and sys.platform == "linux":
        set_parent_death_signal = 1  # of prctl; each process of a job dies with the one that started it
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        os.kill(int(os.environ[SWEEP]), 0)  # raises if it is gone already


def tell(error: Exception, message: str | None, name: str) -> int:
    """Say what ended this process, on the screen and in the log `name`; returns the exit code.

    Args:
        message: for an error that the user can mend; None for any other, which keeps its traceback.
    """
    log, who = logging.getLogger(name), f"rank {rank()}: " if this_launch() else ""
    if message is not None:
        if rank():
            time.sleep(10)  # most mistakes are those of all ranks: the end of the first ends the others unheard
        log.error("%s%s", who, message)
        errors = sys.modules.get("soft.errors")
        return 1 if errors and isinstance(error, errors.RunError) else 2
    library = sys.modules.get("soft.hardware.launch")
    if library and library.lost_another(error):
        log.error("%sstopped, because another process of this run has ended; that one's error says why.", who)
        log.info("%sthe connection broke here", who, exc_info=error)
    else:
        log.error("%s%s: %s", who, type(error).__name__, error, exc_info=error)
    return 1
