"""The folder of a sweep: which of its jobs are finished, and in which folders the others run."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from cli.command_line import unquote


@dataclass
class SweepFolder:
    """The runs in the folder of a sweep.

    A run is finished when its folder holds a result.json. A run belongs to a job when both compute the same, by the
    rules of `soft.runs.identity`; settings that the sweep varies are always compared. An evaluation is finished when
    its folder holds an evaluation.json. It belongs to a job with the same words that was started in the same folder.

    Args:
        path: the sweep's folder.
        varied: keys of the settings that the sweep varies.
    """

    path: Path
    varied: Sequence[str] = ()
    _runs: list[tuple[dict[str, object], bool, Path]] = field(init=False)

    def __post_init__(self) -> None:
        # Imported here, because Hydra loads this module for every command, and the library loads PyTorch.
        from soft.runs.folder import RESULT

        configs = [file for file in self.path.rglob("config.yaml") if (file.parent / ".hydra").is_dir()]
        configs.sort(key=lambda file: (file.parent / RESULT).is_file(), reverse=True)
        self._runs = [self._read(file) for file in configs]
        self._evaluations = evaluations_in(self.path)

    def _read(self, file: Path) -> tuple[dict[str, object], bool, Path]:
        """Return the identity of the run with this config.yaml, whether an older version wrote it, and its folder."""
        from soft.runs.folder import is_older, read_mark
        from soft.runs.identity import identity

        recipe, mark = OmegaConf.to_container(OmegaConf.load(file)), read_mark(file.parent)
        if "resume" in self.varied:
            recipe["resume"] = _first_resume(file.parent, recipe.get("resume"))
        return identity(recipe, self.varied), mark is None or is_older(mark), file.parent

    def find(self, job: Mapping[str, object]) -> Path | None:
        """Return the folder of a run that belongs to a job, of a finished one if there is any; None without a run."""
        from soft.runs.identity import same_run

        return next((folder for theirs, older, folder in self._runs if same_run(job, theirs, older)), None)

    def find_evaluation(self, words: Sequence[str], checkpoint: str) -> Path | None:
        """Return the folder of a finished evaluation with these words, of a checkpoint that has not changed since."""
        from soft.studies.run_files import EVALUATION, OVERRIDES

        file = Path(checkpoint).expanduser()
        for folder in self._evaluations:
            typed, hydra = folder / OVERRIDES, folder / ".hydra" / "hydra.yaml"
            if not (typed.is_file() and hydra.is_file() and file.exists()):
                continue
            same = sorted(OmegaConf.to_container(OmegaConf.load(typed))) == sorted(words)
            here = OmegaConf.load(hydra).hydra.runtime.cwd == os.getcwd()  # relative paths mean the same
            if same and here and file.stat().st_mtime < (folder / EVALUATION).stat().st_mtime:
                return folder
        return None

    def place(self, job: Mapping[str, object], name: str) -> tuple[Path, Path | None]:
        """Return the folder in which a job is to run, and the checkpoint to go on from (None to begin).

        The folder is that of the job's earlier start, if there was one. Otherwise it is `name`, or the next free number
        if another run or an evaluation has that folder. An earlier start that has left no checkpoint is deleted.
        """
        folder = self.find(job)
        if folder is None:
            folder, number = self.path / name, int(name) if name.isdigit() else 0
            while folder in self._evaluations or folder in [taken for _, _, taken in self._runs]:
                number += 1
                folder = self.path / str(number)
            self._runs.append((dict(job), False, folder))
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            return folder, checkpoint
        if (folder / ".hydra").is_dir():
            shutil.rmtree(folder)
        return folder, None


def evaluations_in(sweep: Path) -> list[Path]:
    """Return the folders of the finished evaluations below a folder, without those in the folder of a training."""
    from soft.studies.run_files import CONFIG, EVALUATION

    found = [file.parent for file in sweep.rglob(EVALUATION)]
    trained = {file.parent for file in sweep.rglob(CONFIG)}
    own = [folder for folder in found if trained.isdisjoint([folder, *folder.parents])]
    return sorted(own, key=lambda folder: (int(folder.name) if folder.name.isdigit() else -1, str(folder)))


def _first_resume(folder: Path, resume: object) -> object:
    """Return the run that a job was typed to go on from; a later start goes on from a checkpoint in its own folder."""
    if not str(resume).startswith(f"{folder}/"):
        return resume
    words = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    typed = [unquote(word).partition("=")[2] for word in words if word.startswith("resume=")]
    return next(iter(typed), resume)
