"""SOFT backbones as timm models; importing this package registers them."""

from soft.models import variants as variants
from soft.models.backbone import SoftTransformer

__all__ = ["SoftTransformer"]
