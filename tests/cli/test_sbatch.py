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
        ("--info=all", "--info is an option of src/train.py, and here `--` begins options of sbatch"),
        ("--cfg=job", "--cfg is an option of src/train.py"),
        ("-p", "-p is no setting; options of sbatch are written as --name=value"),
        ("experiments=landmarks", "These settings start a sweep. One script is one run"),
    ],
)
def test_options_of_hydra_are_refused(word, text, tmp_path):
    done = invoke("sbatch.py", "trainer=v100_ddp", word, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr


def test_an_option_and_its_value_are_one_word(tmp_path):
    done = invoke("sbatch.py", "trainer=v100_ddp", "--time", "48:00:00", cwd=tmp_path)
    assert (done.returncode, "written --time=48:00:00" in done.stderr) == (2, True)
    assert "#SBATCH --exclusive\n" in invoke("sbatch.py", "--exclusive", "trainer=v100_ddp", cwd=tmp_path).stdout


def test_a_config_folder_of_one_s_own(tmp_path):
    (tmp_path / "mine" / "trainer").mkdir(parents=True)
    (tmp_path / "mine" / "trainer" / "lab.yaml").write_text("defaults: [gpu_ddp, _self_]\ndevices: 3\n")
    done = invoke("sbatch.py", "--config-dir=mine", "trainer=lab", cwd=tmp_path)
    assert "#SBATCH --gres=gpu:3\n" in done.stdout
    assert f"--config-dir={tmp_path / 'mine'} trainer=lab" in done.stdout
    assert "#SBATCH --config-dir" not in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [(["trainer=gpu"], "--gres=gpu:1"), (["--gres=gpu:h100:1"], "--gres=gpu:h100:1"), (["trainer=cpu"], "--nodes=1")],
)
def test_whether_a_job_gets_a_gpu_is_decided(words, line, tmp_path):
    assert f"#SBATCH {line}\n" in invoke("sbatch.py", *words, cwd=tmp_path).stdout


def test_whether_a_job_gets_a_gpu_is_not_left_open(tmp_path):
    done = invoke("sbatch.py", "model=soft_tiny", "data=fake", cwd=tmp_path)
    assert (done.returncode, "choose trainer=gpu or trainer=cpu" in done.stderr) == (2, True)


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
