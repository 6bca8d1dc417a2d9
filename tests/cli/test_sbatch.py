"""Words that mean something else to src/sbatch.py than to src/train.py."""

import pytest
import timm
import torch

import soft  # noqa: F401 - registers the models
from soft.models.metadata import KEY, Metadata
from tests.invoke import invoke


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("-m", "One script is one run"),
        ("--multirun", "One script is one run"),
        ("--config-dir=mine", "--config-dir is an option of src/train.py, and here `--` begins options of sbatch"),
        ("--cfg=job", "--cfg is an option of src/train.py"),
        ("-p", "-p is no setting; options of sbatch are written as --name=value"),
        ("experiments=landmarks", "These settings start a sweep. One script is one run"),
    ],
)
def test_options_of_hydra_are_refused(word, text, tmp_path):
    done = invoke("sbatch.py", "trainer=v100_ddp", word, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_run_has_the_name_of_its_checkpoint_s_model(tmp_path):
    model = timm.create_model("soft_encoder", img_size=8, in_chans=2, num_landmarks=4, device="meta")
    weights = {key: torch.zeros(()) for key in model.state_dict()}  # the script needs none of them
    facts = Metadata({"name": "soft_encoder", "attention": {"attention": "soft", "num_landmarks": 4}})
    torch.save({"state_dict": weights, KEY: facts.to_dict()}, tmp_path / "a.ckpt")
    words = ("checkpoint=a.ckpt", "data=recall", "trainer=v100_ddp")
    assert "--job-name=soft_encoder-recall\n" in invoke("sbatch.py", *words, cwd=tmp_path).stdout


def test_a_name_may_be_a_number(tmp_path):
    done = invoke("sbatch.py", "trainer=v100_ddp", "name=2024", cwd=tmp_path)
    assert "--job-name=2024\n" in done.stdout
    assert "hydra.run.dir=outputs/2024/slurm_" in done.stdout
