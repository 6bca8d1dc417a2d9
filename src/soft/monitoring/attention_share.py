"""Metrics that show whether the attention is at work."""

from soft.attention import NoAttention
from soft.attention.share import attention_share
from soft.monitoring.stage_metrics import StageMetrics
from soft.runs.idle_attention import KERNEL_MEAN, SHARE


class AttentionShare(StageMetrics):
    """Callback that logs attention/share_stage{1..3} and attention/kernel_mean_stage{1..3} of the evaluated model.

    The share is the part of the attention's output that its global term adds and that differs between tokens, from 0
    (idle) to about 1, see `soft.attention.share`. The kernel mean is the mean of P, which only attentions with a
    Gaussian kernel have. Both are averaged over images and the stage's blocks, and the kernel mean over heads too, see
    `StageMetrics`. The attention `none` has no global term, and so no share.

    Args:
        images: how many images of the first validation batch are measured; 0 for none.
    """

    def __init__(self, images: int = 16):
        measures = {
            SHARE: (
                lambda module: hasattr(module, "branches") and not isinstance(module, NoAttention),
                attention_share,
            ),
            KERNEL_MEAN: (
                lambda module: hasattr(module, "kernel_mean"),
                lambda module, x, grid: module.kernel_mean(x, grid),
            ),
        }
        super().__init__(measures, images, "callbacks.attention_share.images")
