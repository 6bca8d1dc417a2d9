from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from soft.benchmark.benchmark_settings import check_benchmark
from soft.errors import SettingError

CONF = Path(__file__).resolve().parents[2] / "conf"
OmegaConf.register_new_resolver("run_id", lambda: "0000", replace=True)


def _settings(*overrides: str) -> dict:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("benchmark", overrides=["output_dir=x", *overrides])
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_what_is_shipped(size):
    settings = _settings(f"benchmark={size}")
    check_benchmark(settings, settings["augments"])
    assert set(settings["augments"]) == {"light", "paper"}
    assert settings["augments"]["paper"]["rand_augment"] == "rand-m9-mstd0.5-inc1"


@pytest.mark.parametrize(
    ("override", "texts"),
    [
        ("parts=model", ["parts='model'", "brackets"]),
        ("parts=[]", ["parts=", "at least one"]),
        ("threads=0", ["threads=0", "at least 1"]),
        ("model.names=[soft_tinny]", ["model.names='soft_tinny'", "soft_tiny"]),
        ("model.batch_sizes=[0]", ["model.batch_sizes=0", "at least 1"]),
        ("model.img_sizes=[8]", ["model.img_sizes=8", "at least 32"]),
        ("model.rounds=0", ["model.rounds=0", "at least 1"]),
        ("attention.names=[sofd]", ["attention.names='sofd'", "soft, soft_norm"]),
        ("attention.tokens=[256,1021]", ["attention.tokens=1021", "height times width"]),
        ("attention.tokens=[16,256]", ["num_landmarks=49", "at most 16"]),
        ("attention.layouts=[rows]", ["attention.layouts='rows'", "tokens, heads"]),
        ("loader.batch_size=3", ["loader.batch_size=3", "even"]),
        ("loader.images=8", ["loader.images=8", "at least 32"]),
        ("loader.size=[500]", ["loader.size=[500]", "list of 2"]),
        ("loader.root=nowhere", ["loader.root=nowhere", "train/"]),
        ("loader.augments=[heavy]", ["loader.augments='heavy'", "light, paper"]),
        ("overhead.starts=0", ["overhead.starts=0", "at least 1"]),
    ],
)
def test_refuses(override, texts):
    settings = _settings(override)
    with pytest.raises(SettingError) as error:
        check_benchmark(settings, settings["augments"])
    for text in texts:
        assert text in str(error.value)
