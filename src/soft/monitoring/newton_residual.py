"""How well Newton-Raphson inverts, as a metric."""

from soft.monitoring.stage_metrics import StageMetrics


class NewtonResidual(StageMetrics):
    """Callback that logs newton/residual_stage{1..3}: ‖I − A·A⁺‖_F / √m of the evaluated model.

    It is averaged over images, heads and the stage's blocks, see `StageMetrics`.

    Args:
        images: how many images of the first validation batch are measured; 0 for none.
    """

    def __init__(self, images: int = 16):
        measures = {
            "newton/residual": (
                lambda module: hasattr(module, "newton_residual"),
                lambda module, x, grid: module.newton_residual(x, grid),
            )
        }
        super().__init__(measures, images, "callbacks.newton_residual.images")
