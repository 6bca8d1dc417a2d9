"""Evaluates the runs of a study's sweep with the settings of `study.evaluate`, by src/evaluate.py."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cli.command_line import ConfigError, quote
from cli.places import CONFIG_DIR, SOURCES
from cli.sweep_jobs import run_tree, words_for_jobs

_UNKNOWN = object()


def asked_evaluations(config: DictConfig) -> Mapping[str, list[object]]:
    """Return the settings of src/evaluate.py, and their values, with which a study evaluates its runs; empty for none.

    Raises:
        ConfigError: `study.evaluate` has another form, or names something that is no setting of src/evaluate.py.
    """
    asked = OmegaConf.to_container(config.get("study") or OmegaConf.create(), resolve=True).get("evaluate") or {}
    if not isinstance(asked, Mapping) or not all(isinstance(values, list) and values for values in asked.values()):
        raise ConfigError(f"study.evaluate={asked} has to be settings and lists of their values, {{setting: [...]}}.")
    known = OmegaConf.load(CONFIG_DIR / "evaluate.yaml")
    for key in asked:
        if OmegaConf.select(known, key, default=_UNKNOWN) is _UNKNOWN:
            raise ConfigError(
                f"study.evaluate: {key} is no setting of src/evaluate.py; model.attention.newton_iters is one."
            )
    return asked


def evaluate_runs(sweep: Path, config: DictConfig, asked: Mapping[str, list[object]]) -> bool:
    """Evaluate the finished runs in `sweep` that have not been evaluated with all settings that the study asks for.

    Return whether none of the evaluations failed.

    The evaluations of a run are a sweep of src/evaluate.py in the folder `evaluations` of the run. They run on this
    machine, as many side by side as the study's own jobs.

    Args:
        sweep: the sweep's folder.
        config: the sweep's configuration, which its multirun.yaml holds too.
        asked: see `asked_evaluations`.
    """
    if not asked or not any(sweep.rglob("result.json")):
        return True
    from soft.runs.folder import best_checkpoint
    from soft.studies.evaluations import FOLDER
    from soft.studies.sweep import read_sweep

    missing, failed = read_sweep(sweep).unevaluated, False
    for number, run in enumerate(missing, start=1):
        checkpoint = best_checkpoint(run)
        if checkpoint is None:
            print(f"run {run.name} keeps no checkpoint to evaluate", flush=True)
            continue
        words = [f"{key}={','.join(map(_as_word, values))}" for key, values in asked.items()]
        print(f"evaluation of run {run.name} ({number} of {len(missing)}): {' '.join(words)}", flush=True)
        folder = run / FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # evaluations of an earlier start that was interrupted
        folder.mkdir()
        command = [
            *(sys.executable, str(SOURCES / "evaluate.py"), "-m", f"checkpoint={quote(checkpoint)}", *words),
            *(f"trainer={config.hydra.runtime.choices.trainer}", "details=false"),
            *words_for_jobs(config.hydra),
            *(f"hydra.sweep.dir={quote(folder)}", f"hydra.launcher.jobs={config.hydra.launcher.get('jobs', 1)}"),
        ]
        with (folder / "console.log").open("wb") as log:
            code = run_tree(command, stdout=log, stderr=subprocess.STDOUT)
        if code:
            failed = True
            print(f"failed: the evaluation of run {run.name}; see {folder / 'console.log'}", file=sys.stderr)
    return not failed


def _as_word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
