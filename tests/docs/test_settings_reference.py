"""Every setting of conf/ has a comment, and stands with it in the documentation."""

import functools

import hydra
from omegaconf import OmegaConf

from cli.checks import leaves
from cli.descriptions import FACTS, config_path, describe, read_config
from cli.places import CONFIG_DIR
from docs.settings_reference import build_pages

# A logging configuration in the form of Python's logging.config.
OPAQUE = "hydra/job_logging"

pages = functools.cache(build_pages)


def files():
    """Yield the name of each file of conf/, and of the facts of data sets."""
    for folder, prefix in ((CONFIG_DIR, ""), (FACTS, "facts/")):
        for path in sorted(folder.rglob("*.yaml")):
            name = prefix + path.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith(OPAQUE):
                yield name


def test_every_setting_has_a_comment():
    assert not set().union(*(page.uncommented for page in pages().values()))


def test_every_setting_is_in_the_documentation():
    covered = set().union(*(page.covered for page in pages().values()))
    for name in files():
        missing = [key for key in read_config(config_path(name)).settings if (name, key) not in covered]
        assert not missing, f"{name}: {missing}"


def test_a_page_shows_defaults_comments_and_options():
    train, data = pages()["settings/train.md"].lines, pages()["settings/group_data.md"].lines
    assert "| `seed` | `0` | seed of weights, data order, augmentation, mixup and dropout |" in train
    assert any(line.startswith("| [`model`](group_model.md) | `soft_pico` |") for line in train)
    assert any(line.startswith("| `digits` (default) | Handwritten digits") for line in data)
    (rate,) = (line for line in pages()["settings/group_optimizer.md"].lines if line.startswith("| `optimizer.lr`"))
    assert "`5e-3` in lamb" in rate
    (row,) = (line for line in pages()["settings/group_model.md"].lines if line.startswith("| `soft_tiny` |"))
    assert "`data=imagenet`" in row


def test_descriptions_agree_with_hydra():
    """The values that files give, in the order in which Hydra reads them, are those that it composes."""
    words = ["model=soft_tiny", "data=cifar10", "optimizer=lamb", "trainer=v100_ddp", "logger=wandb"]
    found = describe("train", words)
    described = {}
    for part in found.parts:
        described |= {part.prefix + key: setting.value for key, setting in part.file.settings.items()}
    described = {key: value for key, value in described.items() if not key.startswith("hydra.")}
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", words)
    composed = {key for key, _ in leaves(cfg) if not key.startswith("data.augment.")}  # the group augment again
    assert set(described) == composed | {"data.augment", "suggested.encoder"}
    for key, value in described.items():
        if "${" not in value and value != "???":
            assert OmegaConf.create(f"x: {value}").x == OmegaConf.select(cfg, key), key
