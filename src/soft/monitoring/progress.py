"""Shows the progress of a training: one rich bar on a terminal, one line per epoch elsewhere."""

import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from soft.settings import check_number


class TrainingProgress(ProgressBar):
    """Progress bar with the last step's loss, the last validation, the speed and the time left of the whole training.

    Args:
        every: seconds between lines within an epoch when the output is not a terminal.
    """

    def __init__(self, every: float = 60.0):
        super().__init__()
        check_number("callbacks.progress.every", every, low=0)
        self.every = every
        self.console = Console(stderr=True)
        self._bar: Progress | None = None
        self._enabled = True
        self._validated: int | None = None  # the last epoch with a validation, from 0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = self._last_line = time.monotonic()
        self._total = self._optimiser_steps(trainer, pl_module)
        self._first = trainer.global_step
        if self._enabled and self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                speed_estimate_period=120,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total, completed=self._first)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, description=self._describe(trainer))
        elif self._enabled and time.monotonic() - self._last_line > self.every:
            self._line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=self._describe(trainer))
        elif self._enabled:
            self._line(trainer)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _optimiser_steps(self, trainer: Trainer, pl_module: LightningModule) -> int:
        # trainer.estimated_stepping_batches is not used: asking for it disturbs the data order of a resumed run.
        steps = -(-trainer.num_training_batches // trainer.accumulate_grad_batches) * max(1, trainer.max_epochs)
        limit = getattr(pl_module, "max_steps", -1)
        return min(steps, limit) if limit > 0 else steps

    def _describe(self, trainer: Trainer) -> str:
        logged = trainer.callback_metrics
        if self._validated != trainer.current_epoch:  # the val/* metrics are of an earlier epoch
            logged = {name: value for name, value in logged.items() if not name.startswith("val/")}
        example = getattr(trainer.datamodule, "example_name", "image")
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        for name, label, form in (
            ("train/loss", "step loss", "{:.3f}"),
            ("val/loss", "val loss", "{:.3f}"),
            ("val/top1", "top-1", "{:.2f} %"),
            ("images_per_second", "", f"{{:,.0f}} {example}s/s"),
        ):
            if name in logged:
                parts.append(f"{label} {form.format(float(logged[name]))}".strip())
        return "  ".join(parts)

    def _line(self, trainer: Trainer) -> None:
        self._last_line = time.monotonic()
        done = trainer.global_step - self._first
        left = (self._last_line - self._start) / max(1, done) * (self._total - trainer.global_step)
        minutes, seconds = divmod(round(left), 60)
        # Without highlighting, markup and wrapping, log files and CI get one plain line of any length.
        self.console.print(
            f"{self._describe(trainer)}  {minutes}:{seconds:02d} left", highlight=False, soft_wrap=True, markup=False
        )
