"""What is said about a package that is not installed."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from cli.extras import PACKAGES, check_installed, explain_missing

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings the same under another name
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def distributions(extra: str) -> set[str]:
    """Names of what `extra` lists, besides other extras."""
    names = {re.split(r"[\[<>=!]", requirement)[0] for requirement in PROJECT["optional-dependencies"][extra]}
    return names - {PROJECT["name"]}


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"dev", "docs"}))
def test_every_distribution_of_an_extra_has_its_module(extra):
    provided = importlib.metadata.packages_distributions()
    known = set(PACKAGES[extra])
    for distribution in distributions(extra):
        modules = [module for module, names in provided.items() if distribution in (name.lower() for name in names)]
        if distribution == "hydra-submitit-launcher":
            modules = ["submitit"]  # a plugin in Hydra's own package, which imports this
        assert known.intersection(modules or [distribution.replace("-", "_")]), distribution


@pytest.mark.parametrize("extra", sorted(set(PACKAGES) - {"train"}))
def test_every_other_extra_brings_training(extra):
    assert f"{PROJECT['name']}[train]" in PROJECT["optional-dependencies"][extra]
    assert "train" in PROJECT["optional-dependencies"]["dev"][-1]


def test_every_module_that_the_code_imports_comes_with_something():
    sources = ROOT / "src"
    ours = {path.stem for path in sources.iterdir()}
    base = {"torch", "torchvision", "timm", "safetensors"}
    base |= {"huggingface_hub", "triton"}  # timm brings the first, and PyTorch the second where it has kernels for it
    extras = {package for packages in PACKAGES.values() for package in packages}
    for path in sources.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            unknown = {name.split(".")[0] for name in names} - ours - base - extras - set(sys.stdlib_module_names)
            assert not unknown, path


@pytest.mark.parametrize(
    ("error", "package", "extra"),
    [
        (ModuleNotFoundError("No module named 'hydra'", name="hydra"), "hydra", "train"),
        (ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image"), "PIL", "train"),
        (ImportError("datasets is needed for this"), "datasets", "hf"),
    ],
    ids=str,
)
def test_a_missing_package_is_said_in_one_sentence(error, package, extra):
    assert explain_missing(error) == (
        f"This needs the package {package}, which is not installed: pip install -e '.[{extra}]'."
    )


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'hydra_zen'", name="hydra_zen"),
        ModuleNotFoundError("No module named 'soft.nothing'", name="soft.nothing"),
        ImportError("cannot import name 'x' from 'y'"),
        ValueError("hydra"),
    ],
    ids=str,
)
def test_any_other_error_is_no_matter_of_extras(error):
    assert explain_missing(error) is None


def test_a_command_without_its_packages_ends_with_that_sentence(monkeypatch, capsys):
    check_installed()
    monkeypatch.setattr("cli.extras.find_spec", lambda package: None if package == "hydra" else object())
    with pytest.raises(SystemExit) as end:
        check_installed()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "ERROR: This needs the package hydra, which is not installed: pip install -e '.[train]'.\n"
    )
