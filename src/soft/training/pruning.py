"""The part of an Optuna search that runs in the process of each trial."""

from lightning.pytorch import Callback, LightningModule, Trainer

from soft.settings import check_text, check_whole


class Pruning(Callback):
    """Callback that reports a metric to its trial, and ends training when the search gives the trial up.

    It reports after each validation. Without a trial it does nothing.

    Args:
        monitor: name of the metric.
        storage: URL of Optuna's storage.
        study: name of the study in that storage.
        trial: id of the trial in that storage; None for a run that belongs to no search.
        pruner: Optuna's pruner, which decides from the reports of the other trials.
    """

    def __init__(
        self,
        monitor: str = "val/top1",
        storage: str | None = None,
        study: str | None = None,
        trial: int | None = None,
        pruner: object = None,
    ):
        for name, value in {"storage": storage, "study": study}.items():
            if value is not None:
                check_text(f"callbacks.pruning.{name}", value)
        if trial is not None:
            check_whole("callbacks.pruning.trial", trial, low=0)
        self.monitor = monitor
        self.storage = storage
        self.study = study
        self.trial_id = trial
        self.pruner = pruner
        self._trial = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.trial_id is not None and trainer.is_global_zero:
            import optuna

            study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=self.pruner)
            self._trial = optuna.trial.Trial(study, self.trial_id)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.trial_id is None or trainer.sanity_checking:
            return
        give_up = False
        if self._trial is not None:
            self._trial.report(float(trainer.callback_metrics[self.monitor]), step=trainer.current_epoch)
            give_up = self._trial.should_prune() and trainer.current_epoch + 1 < trainer.max_epochs
            if give_up:
                self._trial.set_user_attr("pruned", True)
        # Only rank 0 asks the search, and all ranks have to stop together.
        if trainer.strategy.reduce_boolean_decision(give_up, all=False):
            trainer.should_stop = True
