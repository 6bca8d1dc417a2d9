"""SOFT: Softmax-free Transformer with Linear Complexity. Importing it registers the models with timm."""

from soft import models as models
