"""What a sweep ends with."""

import pytest
from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins import missing_runs
from tests.studies.test_evaluation_table import write


@pytest.fixture
def reported(monkeypatch):
    """The commands of reports that would have been started."""
    commands = []
    monkeypatch.setattr(missing_runs.subprocess, "run", lambda command, **_: commands.append(command))
    return commands


def finish(sweep, *folders):
    results = [JobReturn(overrides=[], working_dir=str(folder), status=JobStatus.COMPLETED) for folder in folders]
    for result in results:
        result.return_value = 1.0
    missing_runs.finish(sweep, results)


def test_a_sweep_of_evaluations_ends_with_their_table(tmp_path, reported, capsys):
    folder = write(tmp_path / "0", 50.0, "weights=raw")
    finish(tmp_path, folder, folder)  # two jobs that compute the same have one folder
    assert capsys.readouterr().out.count("| 50.00") == 1
    assert not reported


def test_a_sweep_of_trainings_ends_with_a_report_even_if_they_were_evaluated_in_their_folders(tmp_path, reported):
    folder = write(tmp_path / "0", 50.0)
    (folder / "result.json").write_text("{}")
    finish(tmp_path, folder)
    assert len(reported) == 1
    assert not (tmp_path / "evaluations.csv").exists()
