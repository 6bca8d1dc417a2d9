"""Whether other programs are at work on this machine."""

import time
from pathlib import Path


def is_busy(looks: int = 5, pause: float = 0.01) -> bool:
    """True if at most of `looks`, `pause` seconds apart, something else was running or waiting for a processor."""
    busy = 0
    for look in range(looks):
        if look:
            time.sleep(pause)
        busy += _running() > 1
    return busy > looks // 2


def _running() -> int:
    """Threads that run or could run, this one included; 1 where the system does not say."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 1
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 1)
