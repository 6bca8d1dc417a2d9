"""The flat encoder's blocks, in the place where the pyramid has its stages."""

from collections.abc import Mapping

from timm.models import checkpoint
from torch import Tensor, nn

from soft.models.blocks import create_blocks


class EncoderStage(nn.Module):
    """Post-norm blocks around attention `attention`: tokens (B, N, C) on `grid` -> (B, N, C).

    Args:
        local_kernel: width of the attention's convolution of V in tokens, odd; 0 for none.
        options: the attention's own arguments.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        drops: list[float],
        mlp_ratio: float,
        local_kernel: int,
        attention: str,
        options: Mapping[str, object],
    ):
        super().__init__()
        self.grid = grid
        self.grad_checkpointing = False
        # At this width an MLP takes a third more time if it computes its hidden activations twice.
        sizes = (dim, num_heads, grid, drops, mlp_ratio, local_kernel)
        self.blocks = create_blocks(*sizes, attention, options, lean=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, self.grid) if self.grad_checkpointing else block(x, self.grid)
        return x
