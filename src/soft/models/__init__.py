"""SOFT backbones as timm models; importing this package registers them."""

from soft.models import encoder as encoder
from soft.models import variants as variants
from soft.models.backbone import SoftTransformer
from soft.models.encoder import SoftEncoder
from soft.models.factory import load_model

__all__ = ["SoftEncoder", "SoftTransformer", "load_model"]
