"""Words that mean something else to src/sbatch.py than to src/train.py."""

import pytest

from tests.invoke import invoke


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("-m", "One script is one run"),
        ("--multirun", "One script is one run"),
        ("--config-dir=mine", "--config-dir is an option of src/train.py, and here `--` begins options of sbatch"),
        ("--cfg=job", "--cfg is an option of src/train.py"),
    ],
)
def test_options_of_hydra_are_refused(word, text, tmp_path):
    done = invoke("sbatch.py", "trainer=v100_ddp", word, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
