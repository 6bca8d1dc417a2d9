"""Hydra sweeper `grid`: runs every combination of the values that are typed or that a study varies, and reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from cli.command_line import ConfigError
from cli.places import STUDIES
from cli.sweep_jobs import ExplainedError
from hydra_plugins.missing_runs import distinct, finish, lock_sweep, run_missing
from hydra_plugins.study_evaluations import asked_evaluations, evaluate_runs

MULTIRUN = "multirun.yaml"  # the name that Hydra's own sweepers use; the report reads the command from this file


@dataclass
class GridSweeperConf:
    """Settings of hydra/sweeper=grid."""

    _target_: str = "hydra_plugins.grid.GridSweeper"
    # A grid, which is settings and their values, or a list of grids to run one after the other. Typed values win.
    params: Any = None


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="soft")


class GridSweeper(BasicSweeper):
    """Sweeper that runs one or several grids, by default those of the study: study.scales.<study.scale>."""

    def __init__(self, params: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None):
        super().__init__(max_batch_size=None)
        self.grids = params

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        grids = study_grids(self.config) if self.grids is None else _as_list(self.grids)
        jobs = expand(grids, arguments, OverridesParser.create(config_loader=self.hydra_context.config_loader))
        asked = asked_evaluations(self.config)
        with lock_sweep(self.config) as sweep:
            self._write_plan(sweep, len(jobs))
            results = run_missing(self.launcher, self.hydra_context, self.config, jobs)
            if len(distinct(results)) < len(jobs):  # only now it is known which jobs are the same run
                self._write_plan(sweep, len(distinct(results)))
            evaluated = evaluate_runs(sweep, self.config, asked)
            finish(sweep, results)
            if not evaluated:
                raise ExplainedError  # the failed evaluations have been listed
        return [results]

    def _write_plan(self, sweep: Path, runs: int) -> None:
        from soft.studies.sweep import PLANNED_RUNS  # Hydra imports this module for --help too, which is not to wait

        OmegaConf.save(OmegaConf.merge({PLANNED_RUNS: runs}, self.config), sweep / MULTIRUN)


def study_grids(config: DictConfig) -> list[Mapping[str, object]]:
    """Return the grids of the study at its scale; without a study, return one empty grid.

    Raises:
        ConfigError: the study trains nothing.
    """
    study = config.get("study")
    if study is None or "name" not in study:
        return [{}]
    if study.command is not None:
        raise ConfigError(f"{STUDIES}={study.name} trains nothing; run this command instead: {study.command}")
    return _as_list(OmegaConf.to_container(study.scales[study.scale], resolve=True))


def _as_list(grids: Mapping[str, object] | Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [grids] if isinstance(grids, Mapping) else list(grids)


def expand(grids: Sequence[Mapping[str, object]], typed: list[str], parser: OverridesParser) -> list[list[str]]:
    """Return the overrides of each job: the union of the grids, without repetitions.

    A typed setting holds in every grid, with one exception: several typed values of a setting that only some grids
    vary replace its values in those grids, and do not reach the others.

    Raises:
        ConfigError: several studies or scales are typed.
    """
    overrides = parser.parse_overrides(typed)
    for override in overrides:
        if override.is_sweep_override() and override.get_key_element() in (STUDIES, "scale"):
            raise ConfigError(f"{override.input_line} is more than one study; start a sweep for each.")
    varied = {key for grid in grids for key in grid}
    jobs: dict[tuple[str, ...], None] = {}
    for grid in grids:
        mine = [o for o in overrides if not (o.is_sweep_override() and o.get_key_element() in varied - set(grid))]
        own = parser.parse_overrides([f"{key}={_choices(values)}" for key, values in grid.items()])
        (batch,) = BasicSweeper.split_arguments([*own, *mine], None)
        jobs |= dict.fromkeys(map(tuple, batch))
    return [list(job) for job in jobs]


def _choices(values: object) -> str:
    """Return values as Hydra's command line has them; a text such as `range(1, 5)` or `a,b` is left as it is."""
    if isinstance(values, str):
        return values
    return ",".join(map(as_word, values))


def as_word(value: object) -> str:
    """Return a value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
