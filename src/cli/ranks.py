"""Finds out the rank of this process in its run, and does what a command needs because of it.

Where no launcher started the process, this loads no heavy library.
"""

import ctypes
import functools
import logging
import os
import secrets
import signal
import sys
import time

from cli.safe_names import inside

# Variables that launchers set: torchrun and Lightning set the first, srun sets the second.
_LAUNCHED = ("LOCAL_RANK", "SLURM_STEP_ID")
# Environment variable that tells a sweep's jobs the process id of the sweep.
SWEEP = "SOFT_SWEEP"
REFUSED = 2  # exit code of a command that a user's mistake ended
REPORT = (
    "The error above is not one that a setting explains. If it comes neither from your own code nor from the machine, "
    "please report it to the people who maintain this program, with the traceback and the command."
)


@functools.cache
def this_launch():
    """Return how this process was launched; None, without loading the library, where nothing hints at a launcher."""
    if not any(name in os.environ for name in _LAUNCHED):
        return None
    from soft.hardware.launcher import find_launch

    return find_launch()


def rank() -> int:
    """Return this process's rank; 0 where no launcher started it."""
    launch = this_launch()
    return launch.rank if launch else 0


@functools.cache
def run_id() -> str:
    """Return the last part of the path of a run's folder: the same on all ranks, and after a launcher's restart.

    Where no launcher gives an id, it is made of the time and a random part, so that runs which start in the same second
    get different folders.
    """
    launch = this_launch()
    if launch and launch.run_id:
        return inside(launch.run_id, "--rdzv-id")
    own = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(2)}"
    if launch and launch.by == "torchrun":
        from soft.hardware.launcher import agree_on_name

        return agree_on_name(own)
    return own


def log_name(name: str) -> str:
    """Return the name of this rank's log: `name` itself on rank 0, `name_rank3` on rank 3."""
    return f"{name}_rank{rank()}" if rank() else name


def end_with_launcher() -> None:
    """Make this rank end when the process that started it ends."""
    launch = this_launch()
    if launch and launch.by != "SLURM":  # SLURM ends its tasks itself
        from soft.hardware.launcher import end_with_parent

        end_with_parent()


def end_with_sweep() -> None:
    """Make a job of a sweep end when the sweep is killed.

    Otherwise its processes would still write into the job's folder when the sweep is started again.
    """
    if SWEEP in os.environ and sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG: the system kills a process when its parent ends
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        os.kill(int(os.environ[SWEEP]), 0)  # raises if the sweep has ended already


def tell(error: Exception, message: str | None, name: str) -> int:
    """Report what ended this process, on the screen and in the log `name`; return the exit code.

    Args:
        error: the exception that ended the process.
        message: what to tell the user of an error that they can mend; None for any other error, which keeps its
            traceback.
        name: the log's name.
    """
    log, who = logging.getLogger(name), f"rank {rank()}: " if this_launch() else ""
    if message is not None:
        if rank():
            time.sleep(10)  # all ranks usually have the same error: rank 0 reports it, and its end ends the others
        log.error("%s%s", who, message)
        errors = sys.modules.get("soft.errors")
        return 1 if errors and isinstance(error, errors.RunError) else REFUSED
    library = sys.modules.get("soft.hardware.launcher")
    if library and library.lost_another(error):
        log.error("%sstopped, because another process of this run has ended; that one's error says why.", who)
        log.info("%sthe connection broke here", who, exc_info=error)
    else:
        log.error("%s%s: %s", who, type(error).__name__, error, exc_info=error)
        log.error(REPORT)
    return 1
