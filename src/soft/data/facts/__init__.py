"""What is known of each data set, in a YAML file of its own, which the configuration (conf/data) reads too."""

import functools
from collections.abc import Mapping
from pathlib import Path

import yaml


@functools.cache
def facts(dataset: str) -> Mapping[str, object]:
    """Return the arguments of `soft.data.datamodule.ImageDataModule` that go without saying for a data set.

    A file's list `defaults` names other files, as in Hydra: what the file does not say itself is taken from them.
    A data set without a file is taken for photographs.
    """
    file = Path(__file__).with_name(f"{dataset}.yaml")
    content = yaml.safe_load((file if file.is_file() else file.with_name("photographs.yaml")).read_text())
    inherited = [name for name in content.pop("defaults", []) if name != "_self_"]
    return {key: value for name in inherited for key, value in facts(name).items()} | content
