"""Takes over the runs that another study has finished with the same configuration, instead of training them again.

Most studies on a task share their floor, their ceiling and the point that they start from.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.sweep_folder import SweepFolder

_SAME = ("commit", "torch", "device")  # conditions that a run of another study has to share with this process
_LEFT = (".lock", "evaluations")  # what stays behind in the other run's folder


class OtherStudies:
    """The finished runs of the studies at the same scale that lie beside a study's folder.

    Args:
        sweep: the study's folder.
        config: the study's configuration; a sweep that is no study takes nothing over.
        varied: keys of the settings that the study varies.
    """

    def __init__(self, sweep: Path, config: DictConfig, varied: Sequence[str] = ()):
        study = config.get("study") or {}
        found = sorted(sweep.parent.glob(f"*-{study['scale']}/multirun.yaml")) if study.get("take_over") else []
        self._folders = [file.parent for file in found if file.parent != sweep]
        self._varied = varied
        self._runs: list[SweepFolder] | None = None
        self._conditions: dict[str, object] | None = None

    def find(self, job: Mapping[str, object]) -> Path | None:
        """Return the folder of a finished run of the same configuration, code, PyTorch and device; None without one."""
        if not self._folders:
            return None
        if self._runs is None:
            self._runs = [SweepFolder(folder, self._varied) for folder in self._folders]
            self._conditions = _here()
        commit = self._conditions["commit"]
        if commit is None or commit.endswith("-dirty"):
            return None  # nothing says that the other study ran the same code
        for runs in self._runs:
            folder = runs.find(job)
            if folder is not None and self._counts(folder):
                return folder
        return None

    def _counts(self, folder: Path) -> bool:
        from soft.runs.folder import is_older, read_mark
        from soft.runs.result import read_result

        result, mark = read_result(folder), read_mark(folder)
        if result is None or mark is None or is_older(mark):
            return False
        found = result.get("environment", {})
        return all(found.get(key) == self._conditions[key] for key in _SAME)


def take_over(run: Path, folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Copy a finished run to `folder` as a run of this study; files become hard links where the disk has them.

    Args:
        run: the other study's run.
        config: the configuration of the job whose place the run takes.
        overrides: the overrides of that job.
    """
    from soft.writing import replace_text

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run, partial, copy_function=_link, ignore=shutil.ignore_patterns(*_LEFT))
    recipe = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    recipe |= {"study": OmegaConf.to_container(config.study, resolve=True), "output_dir": str(folder)}
    replace_text(partial / "config.yaml", OmegaConf.to_yaml(recipe))
    replace_text(partial / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(list(overrides)))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _link(source: str, target: str) -> None:
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _here() -> dict[str, object]:
    import torch

    from soft.hardware.machine import describe_machine

    return describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
