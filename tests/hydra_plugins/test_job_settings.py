"""Typed settings that only some points of a sweep have."""

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode

from cli.places import CONFIG_DIR
from hydra_plugins.job_settings import JobSettings

LANDMARKS = "model.attention.num_landmarks=4"


@pytest.fixture
def settings():
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        cfg = app.compose_config("train", ["output_dir=x"], run_mode=RunMode.MULTIRUN)
        yield JobSettings(HydraContext(config_loader=app.config_loader, callbacks=Callbacks()), cfg)


def test_a_setting_is_left_out_where_the_chosen_option_has_none(settings):
    job, words = settings.compose(["model/attention=soft", LANDMARKS])
    assert (job.model.attention.num_landmarks, words) == (4, ["model/attention=soft", LANDMARKS])
    for option in ("none", "softmax", "none"):
        job, words = settings.compose([f"model/attention={option}", LANDMARKS, "seed=1"])
        assert words == [f"model/attention={option}", "seed=1"]
        assert (job.seed, "num_landmarks" in job.model.attention) == (1, False)
    settings.check()
    assert settings.left_out == {LANDMARKS: ["model/attention=none", "model/attention=softmax"]}


def test_a_setting_that_no_job_has_is_an_error(settings):
    for option in ("none", "softmax"):
        settings.compose([f"model/attention={option}", LANDMARKS])
    with pytest.raises(HydraException, match="num_landmarks"):
        settings.check()


@pytest.mark.parametrize(
    "words", [["model/attention=none", "optimizer.momentum=1"], ["model.attention.num_landmark=4"]]
)
def test_a_setting_of_another_group_is_an_error(words, settings):
    with pytest.raises(HydraException, match=words[-1].partition("=")[0]):
        settings.compose(words)
