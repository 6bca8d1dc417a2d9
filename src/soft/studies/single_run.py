"""One run, finished or not, as its folder holds it."""

import fcntl
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soft.errors import SettingError
from soft.runs.folder import METRICS, RESULT, as_typed, best_checkpoint, read_mark
from soft.runs.metrics import best_of, direction, show_metric
from soft.runs.result import read_metrics
from soft.studies.run_files import CONFIG, read_config, read_result

LOG = "train.log"
_TIME = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d)", re.MULTILINE)
# Where runs lie below the folder of a sweep, and below the one that holds all runs and sweeps.
_BELOW = ("*/run.json", "*/config.yaml", "*/*/run.json", "*/*/config.yaml")


@dataclass(frozen=True)
class SingleRun:
    """A run, finished or not.

    Attributes:
        config: all settings, as nested mappings.
        result: result.json; None while the run is not finished.
        metrics: (epoch, value) pairs by metric; empty where no metrics were logged.
        log: the run's log, "" without one.
        running: a process has the folder.
    """

    folder: Path
    config: Mapping[str, object]
    result: Mapping[str, object] | None
    metrics: Mapping[str, list[tuple[float, float]]]
    log: str
    running: bool

    @property
    def name(self) -> str:
        """Return the run's name."""
        return str(self.config.get("name") or self.folder.name)

    @property
    def facts(self) -> Mapping[str, object]:
        """Return the facts of the run's plan; empty while it is not finished."""
        return (self.result or {}).get("facts", {})

    @property
    def example(self) -> str:
        """Return what one example of the data is called, such as image."""
        return str(self.facts.get("example_name", "image"))

    @property
    def attention(self) -> str:
        """Return the name of the attention; "" where the model has none of ours."""
        return str((self.config["model"].get("attention") or {}).get("attention", ""))

    @property
    def has_pictures(self) -> bool:
        """Return whether the run was trained on pictures, and not on token ids or grey values."""
        return bool(self.config.get("data", {}).get("mean"))

    @property
    def checkpoint(self) -> Path | None:
        """Return the best checkpoint, or the last one where that is all there is."""
        return best_checkpoint(self.folder)

    @property
    def started(self) -> str | None:
        """Return when the log begins, to the minute; None without a log."""
        found = _TIME.search(self.log)
        return found and found[1]

    @property
    def last(self) -> dict[str, float]:
        """Return the last value of each metric."""
        logged = {name: values[-1][1] for name, values in self.metrics.items()}
        return {**logged, **(self.result or {}).get("last", {})}

    @property
    def epochs(self) -> tuple[int, object]:
        """Return how many epochs are over, and how many the run was to have."""
        over = max((values[-1][0] for values in self.metrics.values()), default=0)
        over = (self.result or {}).get("epochs", int(over))
        return over, self.config.get("trainer", {}).get("max_epochs", "?")

    @property
    def monitored(self) -> tuple[str, str]:
        """Return the name of the metric that decides which checkpoint is best, and its direction, max or min."""
        if self.result and "monitor" in self.result:
            return self.result["monitor"], self.result["mode"]
        checkpoint = (self.config.get("callbacks") or {}).get("checkpoint") or {}
        metric, mode = checkpoint.get("monitor", "val/top1"), checkpoint.get("mode", "auto")
        return metric, mode if mode in ("max", "min") else direction(metric) or "max"

    @property
    def best(self) -> tuple[float | None, float] | None:
        """Return epoch and value of the monitored metric at its best; None before the first validation."""
        found = best_of(self.metrics, *self.monitored)
        value = (self.result or {}).get("best", (self.result or {}).get("top1"))
        if found is None:  # a run without metrics.csv
            return None if value is None else (None, value)
        return found if value is None else (found[0], value)

    def describe_best(self) -> str | None:
        """Return the best value with its metric's name, its direction and its epoch, for a person."""
        if self.best is None:
            return None
        (metric, mode), (epoch, value) = self.monitored, self.best
        where = "" if epoch is None else f", epoch {epoch:.0f}"
        return f"{metric} {show_metric(metric, value)} ({'highest' if mode == 'max' else 'lowest'}{where})"


def read_single_run(folder: str | Path) -> SingleRun:
    """Read the run in `folder`.

    Raises:
        SettingError: there is none.
    """
    given, folder = folder, Path(folder).expanduser().absolute()
    if not folder.is_dir():
        raise SettingError(f"run={given} is no folder; name the folder of a run, such as outputs/RUN.")
    mark = read_mark(folder)
    config = read_config(folder) if (folder / CONFIG).is_file() else (mark or {}).get("recipe")
    if not isinstance(config, Mapping) or "model" not in config:
        below = {path.parent for pattern in _BELOW for path in folder.glob(pattern)}
        inside = sorted(path for path in below if path.name != ".hydra")
        if inside:
            runs = f"{len(inside)} runs" if len(inside) > 1 else "one run"
            raise SettingError(
                f"run={given} is no run, and holds {runs}: sweep={given} reports on a sweep, and "
                f"{as_typed('run', inside[0])} on one run."
            )
        raise SettingError(f"run={given} holds no run; name the folder of one, such as outputs/RUN.")
    metrics, log = folder / METRICS, folder / LOG
    return SingleRun(
        folder,
        config,
        read_result(folder) if (folder / RESULT).is_file() else None,
        read_metrics(metrics) if metrics.is_file() else {},
        log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "",
        _is_in_use(folder),
    )


def _is_in_use(folder: Path) -> bool:
    """Return whether another process has the folder; False where that cannot be told."""
    try:
        with (folder / ".lock").open("r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
