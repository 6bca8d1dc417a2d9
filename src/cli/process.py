"""Settings of the whole process that have to be made before PyTorch is loaded."""

import gc
import io
import os
import sys
import time
from pathlib import Path

from cli.command_line import ConfigError

_SPIN = "GOMP_SPINCOUNT"
_SHORT_SPIN = 2000


def prepare_process(openmp_spin: int | str | None, gc_threshold: int) -> None:
    """Set how OpenMP's threads wait, and how often Python looks for garbage.

    OpenMP's threads spin while they wait for each other, by default for milliseconds. Beside another busy process, each
    of them then waits for a thread that has no processor: a step of a small model took up to thirty times as long.
    Spinning for microseconds mends that, and costs a third of the speed where nothing else runs.

    Args:
        openmp_spin: number of turns that a waiting thread spins (GOMP_SPINCOUNT). `auto` takes 2000 if other programs
            are at work, and otherwise leaves OpenMP's own value, as None does. If GOMP_SPINCOUNT is set already, it
            stays as it is.
        gc_threshold: number of new objects after which Python looks for garbage. The libraries make hundreds of
            thousands while they load. With 700, Python's default up to 3.12, looking takes a seventh of a command's
            start.

    Raises:
        ConfigError: a value is none of these.
    """
    if openmp_spin not in ("auto", None) and not _is_count(openmp_spin):
        raise ConfigError(f"process.openmp_spin={openmp_spin} has to be auto, null or a whole number of at least 0.")
    if not _is_count(gc_threshold):
        raise ConfigError(f"process.gc_threshold={gc_threshold} has to be a whole number of at least 0.")
    gc.set_threshold(gc_threshold)
    if openmp_spin == "auto":
        openmp_spin = _SHORT_SPIN if _SPIN not in os.environ and is_busy() else None
    if openmp_spin is not None:
        os.environ.setdefault(_SPIN, str(openmp_spin))


def print_any_name() -> None:
    """Let `print` show letters that the terminal's encoding lacks, and bytes in names of files that are no text.

    They become escapes such as `\\xe9`, as they do on standard error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_busy(samples: int = 5, pause: float = 0.01) -> bool:
    """Return whether other programs were running in most of `samples` looks, which are `pause` seconds apart."""
    busy = 0
    for sample in range(samples):
        if sample:
            time.sleep(pause)
        busy += _runnable_threads() > 1
    return busy > samples // 2


def _runnable_threads() -> int:
    """Return how many threads run or could run, this one included; 1 where the system does not say."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 1
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 1)
