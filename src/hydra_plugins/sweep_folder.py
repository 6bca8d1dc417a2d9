"""The folder of a sweep: which runs in it are finished, and where the next one goes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

# Where a run is written, what watches it and what its report quotes do not change what it computes.
_OUTSIDE = ("output_dir", "name", "resume", "logger", "callbacks", "study")


def recipe_key(recipe: Mapping[str, object]) -> str:
    """What two runs share exactly when they compute the same; from a resolved configuration."""
    return json.dumps({key: value for key, value in recipe.items() if key not in _OUTSIDE}, sort_keys=True)


def resolve_recipe(job: DictConfig) -> dict[str, object]:
    """The configuration of a job that has not started, resolved like the config.yaml that it will write."""
    inside = [name for name in job if name not in ("hydra", *_OUTSIDE)]
    return OmegaConf.to_container(OmegaConf.masked_copy(job, inside), resolve=True)


@dataclass
class SweepFolder:
    """Runs of a sweep are folders of `path` with a number for a name.

    A run is finished when its result.json is there, and belongs to a job when its config.yaml says the same.
    """

    path: Path
    _runs: dict[str, Path] = field(init=False)
    _taken: set[Path] = field(init=False)

    def __post_init__(self) -> None:
        configs = sorted(self.path.glob("*/config.yaml"), key=lambda file: (file.parent / "result.json").is_file())
        self._runs = {recipe_key(OmegaConf.to_container(OmegaConf.load(file))): file.parent for file in configs}
        self._taken = set(self._runs.values())

    def finished(self, key: str) -> Path | None:
        """The folder of the finished run with this `recipe_key`."""
        folder = self._runs.get(key)
        return folder if folder is not None and (folder / "result.json").is_file() else None

    def place(self, key: str, number: int) -> tuple[Path, Path | None]:
        """Folder for a run that is to start, and the checkpoint of an earlier start from which it can go on.

        That is the folder of the earlier start, else the first free one from `number` on. Without a checkpoint an
        earlier start leaves nothing behind.
        """
        folder = self._runs.get(key)
        if folder is None:
            folder = self.path / str(number)
            while folder in self._taken:
                number += 1
                folder = self.path / str(number)
            self._runs[key] = folder
            self._taken.add(folder)
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            return folder, checkpoint
        shutil.rmtree(folder, ignore_errors=True)
        return folder, None
