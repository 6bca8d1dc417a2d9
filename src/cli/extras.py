"""What to install for a package that is missing.

Only the standard library is imported here, so that a command can say it before it needs any of these packages.
"""

import re
import sys
from importlib.util import find_spec

# The packages that each extra of pyproject.toml brings, as they are imported.
PACKAGES = {
    "train": (
        "hydra",
        "omegaconf",
        "lightning",
        "torchmetrics",
        "wandb",
        "matplotlib",
        "numpy",
        "PIL",
        "simplejpeg",
        "rich",
        "sklearn",
        "scipy",
        "filelock",
        "fsspec",
        "yaml",
        "plotly",
    ),
    "dashboard": ("wandb_workspaces",),
    "hf": ("datasets", "pyarrow"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "search": ("optuna",),
    "slurm": ("submitit",),
    "tensorboard": ("tensorboard", "tensorboardX"),
}
_EXTRAS = {package: extra for extra, packages in PACKAGES.items() for package in packages}


def explain_missing(error: BaseException) -> str | None:
    """Return one sentence about a package that an extra brings and that cannot be imported; None for other errors."""
    if not isinstance(error, ImportError):
        return None
    words = re.findall(r"\w+", error.name.partition(".")[0] if error.name else str(error))
    package = next((word for word in words if word in _EXTRAS), None)
    return package and _sentence(package)


def check_installed(packages: tuple[str, ...] = ("omegaconf", "hydra", "lightning")) -> None:
    """End this process with one sentence and exit code 2 if one of the packages is not installed."""
    for package in packages:
        if find_spec(package) is None:
            print(f"ERROR: {_sentence(package)}", file=sys.stderr)
            sys.exit(2)


def _sentence(package: str) -> str:
    return f"This needs the package {package}, which is not installed: pip install -e '.[{_EXTRAS[package]}]'."
