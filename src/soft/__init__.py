"""SOFT: Softmax-free Transformer with Linear Complexity.

Importing the package registers the models with timm: `timm.create_model("soft_tiny")` builds one, and
`soft.load_model(path)` reads a trained one from a file.
"""

from soft import models as models
from soft.models import load_model

__all__ = ["load_model", "models"]
