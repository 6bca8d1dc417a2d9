"""best.ckpt: the weights at the best value of one metric."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from soft.runs.metrics import resolve_mode
from soft.settings import check_whole
from soft.writing import link_file


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose best file is always best.ckpt, and which keeps the metrics of that moment.

    Where several checkpoints are kept (`save_top_k`), each has a name of its own, and best.ckpt is another name of the
    best of them.

    Args:
        dirpath: folder for the checkpoints.
        monitor: name of the metric.
        mode: `max`, `min`, or `auto` for the direction that the metric has.
        options: further arguments of ModelCheckpoint.

    Attributes:
        best_metrics: the validation metrics that belong to the best checkpoint.
    """

    FILE = "best.ckpt"

    def __init__(self, dirpath: str | Path, monitor: str = "val/top1", mode: str = "auto", **options: Any):
        filename = str(options.pop("filename", None) or "best")
        if options.get("save_top_k") is not None:
            check_whole("callbacks.checkpoint.save_top_k", options["save_top_k"], low=-1)
        if options.get("save_top_k", 1) not in (0, 1) and "{" not in filename:
            filename = f"{filename}-epoch{{epoch}}"
        options = {"enable_version_counter": False, "auto_insert_metric_name": False, **options}
        super().__init__(dirpath, filename, monitor=monitor, mode=resolve_mode(monitor, mode), **options)
        self.best_metrics: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        # Checkpoints have always kept this state under the name of Lightning's class.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best_metrics = state_dict.get("best_metrics", {})

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        before, values = self.best_model_score, trainer.callback_metrics
        metrics = {name: float(value) for name, value in values.items() if name.startswith(("val/", "val_raw/"))}
        # The metrics are set before the file is written, because the file holds them too.
        kept, better = self.best_metrics, before is None or self._is_better(current, before)
        self.best_metrics = metrics if better else kept
        super()._update_best_and_save(current, trainer, monitor_candidates)
        best = Path(self.best_model_path)
        if better and trainer.is_global_zero and best.is_file() and best.name != self.FILE:
            link_file(best, best.with_name(self.FILE))

    def _is_better(self, value: Tensor, than: Tensor) -> bool:
        return bool(value > than) if self.mode == "max" else bool(value < than)
