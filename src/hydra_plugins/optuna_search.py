"""Hydra sweeper `optuna_search`: Optuna chooses the settings, and each trial is a run of its own.

The released plugin is not used, because its versions for Hydra 1.3 cannot store a study with today's Optuna.
"""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cli.command_line import ConfigError, quote, search_path_as_typed, typed_search_path, unquote
from hydra_plugins.grid import MULTIRUN, as_word
from hydra_plugins.missing_runs import finish, lock_sweep, run_missing
from hydra_plugins.search_space import holds, split


@dataclass
class SearchConf:
    """Settings of hydra/sweeper=optuna_search; conf/hparams_search/optuna.yaml says what they mean."""

    _target_: str = "hydra_plugins.optuna_search.OptunaSearch"
    trials: int = 20
    storage: str | None = None
    direction: str = "auto"
    sampler: Any = None
    pruner: Any = None
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna_search", node=SearchConf, provider="soft")


class OptunaSearch(Sweeper):
    """Sweeper that asks Optuna for as many trials as the launcher runs side by side, until `trials` are done."""

    def __init__(
        self,
        trials: int,
        storage: str | None,
        direction: str,
        sampler: object,
        pruner: object,
        params: Mapping[str, str],
    ):
        self.trials = trials
        self.storage = storage
        self.direction = direction
        self.sampler = sampler
        self.pruner = pruner
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.monitor, self.mode = _monitored(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        try:
            import optuna
        except ImportError:
            raise ConfigError("hparams_search=optuna needs Optuna: pip install -e '.[search]'.") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if "name" in (self.config.get("study") or {}):
            raise ConfigError("experiments and hparams_search are two sweeps; leave one of them out.")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        space, held = split(self.params, arguments, parser)
        results: list[JobReturn] = []
        with lock_sweep(self.config) as sweep:
            study = self._open_study(sweep, space, held)
            OmegaConf.save(self.config, sweep / MULTIRUN)
            jobs = getattr(self.launcher, "jobs", 1)
            trials = _interrupted(study, space)
            while trials or (missing := self.trials - _asked(study)) > 0:
                trials = trials or [study.ask(space) for _ in range(min(missing, jobs))]
                results += self._run(study, trials[:jobs], held)
                trials = trials[jobs:]
            try:
                finish(sweep, results)
            finally:
                _print_best(study, held, self.monitor)
        return results

    def _open_study(self, sweep: Path, space: Mapping[str, Any], held: list[str]) -> Any:
        """Return the study in its storage; a new study tries the configuration's own values first.

        Raises:
            ConfigError: the storage holds a study of other settings, or with other fixed values.
        """
        import optuna

        self.storage = self.storage or f"sqlite:///{sweep / 'optuna.db'}"
        study = optuna.create_study(
            study_name=sweep.name,
            storage=self.storage,
            direction=_direction(self.direction, self.monitor, self.mode),
            sampler=self.sampler,
            pruner=self.pruner,
            load_if_exists=True,
        )
        question = json.dumps([held, {key: repr(distribution) for key, distribution in space.items()}])
        if study.user_attrs.get("question", question) != question:
            raise ConfigError(
                f"{sweep} holds a search over other settings, or with other fixed values; choose another folder with "
                "hydra.sweep.dir."
            )
        if not study.trials:
            study.set_user_attr("question", question)
            own = {key: OmegaConf.select(self.config, key) for key in space}
            inside = {key: value for key, value in own.items() if holds(space[key], value)}
            for key in own.keys() - inside.keys():
                print(f"{key}={own[key]} is not among the values to search, so the first trial draws one", flush=True)
            study.enqueue_trial(inside)
            return study
        study.sampler.reseed_rng()  # with its first seed, the sampler would draw the same choices again
        done = sum(trial.state.is_finished() for trial in study.trials)
        print(f"{done} of {self.trials} trials are done already, in {sweep}", flush=True)
        return study

    def _run(self, study: Any, trials: Sequence[Any], held: list[str]) -> Sequence[JobReturn]:
        """Run `trials` side by side, tell the study how they ended, and return their results."""
        from optuna.trial import TrialState

        jobs = [
            [
                *(f"{key}={as_word(value)}" for key, value in trial.params.items()),
                *held,
                f"callbacks.pruning.storage={quote(self.storage)}",
                f"callbacks.pruning.study={quote(study.study_name)}",
                f"callbacks.pruning.trial={trial._trial_id}",
            ]
            for trial in trials
        ]
        results = run_missing(self.launcher, self.hydra_context, self.config, jobs)
        for trial, result in zip(trials, results, strict=True):
            trial.set_user_attr("folder", result.working_dir)
            if result.status == JobStatus.FAILED or result.return_value is None:
                study.tell(trial, state=TrialState.FAIL)
            elif study.trials[trial.number].user_attrs.get("pruned"):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, result.return_value)
        return results


def _asked(study: Any) -> int:
    return sum(trial.state.name != "WAITING" for trial in study.trials)


def _interrupted(study: Any, space: Mapping[str, Any]) -> list[Any]:
    """Return the unfinished trials of an earlier start that was killed; the folder's lock keeps other searches out.

    A trial that was killed before all its settings were chosen cannot be run, and is told to the study as failed.
    """
    from optuna.trial import Trial, TrialState

    trials = [Trial(study, trial._trial_id) for trial in study.get_trials(states=[TrialState.RUNNING])]
    for trial in trials:
        if set(trial.params) != set(space):  # the search was killed while it chose the settings
            study.tell(trial, state=TrialState.FAIL)
    return [trial for trial in trials if set(trial.params) == set(space)]


def _monitored(config: DictConfig) -> tuple[str, str]:
    """Return the metric that decides which result is best, and `max` or `min` for the direction that is better."""
    from soft.runs.metrics import resolve_mode

    checkpoint = OmegaConf.select(config, "callbacks.checkpoint") or {}
    monitor = checkpoint.get("monitor") or "val/top1"
    return monitor, resolve_mode(monitor, checkpoint.get("mode", "auto"))


def _direction(typed: str, monitor: str, mode: str) -> str:
    """Return Optuna's name of the direction in which a metric gets better.

    Args:
        typed: the setting hydra.sweeper.direction.
        monitor: name of the metric.
        mode: `max` or `min`, the direction in which the metric gets better.

    Raises:
        ConfigError: `typed` contradicts `mode`.
    """
    right = {"max": "maximize", "min": "minimize"}[mode]
    if typed not in ("auto", right):
        raise ConfigError(
            f"hydra.sweeper.direction={typed} contradicts {monitor}, of which the {mode} is the best; leave it out."
        )
    return right


def _print_best(study: Any, held: list[str], monitor: str) -> None:
    from soft.runs.metrics import show_metric

    states = Counter(trial.state.name for trial in study.trials)
    print(f"\n{states['COMPLETE']} trials finished, {states['PRUNED']} were given up, {states['FAIL']} failed")
    if states["COMPLETE"]:
        best = study.best_trial
        words = [word for word in held if not word.startswith("hparams_search=")]
        words += [f"{key}={value}" for key, value in best.params.items()]
        print(f"best: {monitor} {show_metric(monitor, best.value)}, in {best.user_attrs['folder']}")
        words = search_path_as_typed([*typed_search_path(sys.argv[1:]), *words])
        command = shlex.join(["python", sys.argv[0], *map(unquote, words)])
        print(f"run it again: {command}", flush=True)
