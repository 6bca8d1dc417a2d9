"""Skips and counts steps whose loss or gradient is not finite, and explains them when too many follow each other."""

import logging
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from soft.errors import RunError
from soft.settings import check_whole
from soft.writing import replace_file

log = logging.getLogger(__name__)


class SkippedStep(Exception):  # noqa: N818 - no error
    """Exception that leaves an optimiser's step before the step has changed anything."""


class NonFiniteGuard:
    """Guard that counts skipped steps and undoes what their forward passes did to the model's buffers.

    Without it, a single NaN would stay in the BatchNorm statistics for ever.

    Args:
        model: the network in training.
        limit: number of skipped steps in a row after which the run has to end.

    Attributes:
        skipped: number of steps skipped so far.
        in_a_row: number of steps skipped since the last one that was taken.
    """

    def __init__(self, model: nn.Module, limit: int):
        check_whole("max_nonfinite_steps", limit, low=1)
        self.model = model
        self.limit = limit
        self.skipped = self.in_a_row = 0
        self._copies: list[Tensor] = []

    def begin_step(self) -> None:
        """Copy the model's buffers before the first forward pass of a step."""
        buffers = list(self.model.buffers())
        if not self._copies:
            self._copies = [torch.empty_like(buffer) for buffer in buffers]
        if buffers:
            torch._foreach_copy_(self._copies, buffers)

    def skip_step(self, trouble: bool = True) -> None:
        """Count a step that was not taken, and restore the buffers to their values before it.

        Args:
            trouble: False while a float16 loss scale is being found. Skipped steps are normal then, and do not count
                towards the limit.
        """
        buffers = list(self.model.buffers())
        if buffers:
            torch._foreach_copy_(buffers, self._copies)
        self.skipped += 1
        self.in_a_row += trouble
        if trouble and self.in_a_row == 1:
            log.warning(
                "Skipped a step whose loss or gradient is not finite; metrics.csv counts them as skipped_steps."
            )


def stop_with_report(model: nn.Module, batches: list[tuple[Tensor, Tensor]], folder: Path, place: str) -> None:
    """End the run on every rank: save the weights and a batch of each rank, and say where the numbers go wrong.

    Args:
        model: the network, with the weights and gradients of the last step that failed.
        batches: (images (B, 3, H, W), targets) of that step's forward passes on this rank.
        folder: the run's folder, for nonfinite.pt.
        place: epoch and batch, for the message.

    Raises:
        RunError: always, with the explanation of the first rank that has one.
    """
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    names = [f"nonfinite_rank{number}.pt" if ranks > 1 else "nonfinite.pt" for number in range(ranks)]
    # Every rank passes all its batches through the model, because synchronised BatchNorm waits for all ranks each time.
    explained = [(explain_forward(model, batch[0]), batch) for batch in batches]
    finding, batch = next(((text, failed) for text, failed in explained if text), ("", batches[-1]))
    content = {"images": batch[0].cpu(), "targets": batch[1].cpu(), "weights": model.state_dict()}
    replace_file(folder / names[rank], lambda file: torch.save(content, file))
    findings = [finding] * ranks
    if ranks > 1:
        dist.all_gather_object(findings, finding)
    # Gradients are averaged over the ranks already, so rank 0's explanation and file stand for all of them.
    number, finding = next(((n, f) for n, f in enumerate(findings) if f), (0, explain_gradient(model)))
    raise RunError(
        f"Stopped at {place}: loss or gradient was not finite in too many steps in a row (max_nonfinite_steps). "
        f"{finding} The images, targets and weights are in {folder / names[number]}. Try a lower optimizer.lr, "
        "trainer.gradient_clip_val=1.0 or trainer.precision=32-true; resume=auto goes on from the last checkpoint."
    )


@torch.no_grad()
def explain_forward(model: nn.Module, images: Tensor) -> str:
    """Return a sentence that names the first layer whose output is not finite; "" if all outputs are finite.

    It also says how far Newton's iteration converges on these images.

    Args:
        model: the network.
        images: (B, 3, H, W).
    """
    failed: list[str] = []
    residuals: dict[str, float] = {}

    def look(name: str, module: nn.Module) -> RemovableHandle:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                failed.append(name)

        return module.register_forward_hook(hook)

    def measure(name: str, module: nn.Module) -> RemovableHandle:
        stage = name.split(".blocks.")[0]

        def hook(module: nn.Module, inputs: tuple[Tensor, tuple[int, int]]) -> None:
            if inputs[0].isfinite().all():
                residual = float(module.newton_residual(*inputs).nan_to_num(nan=torch.inf).max())
                residuals[stage] = max(residuals.get(stage, 0.0), residual)

        return module.register_forward_pre_hook(hook)

    modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [look(name, module) for name, module in modules]
    handles += [measure(name, module) for name, module in modules if hasattr(module, "newton_residual")]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not images.isfinite().all():
        return "The images are not finite already."
    if not failed:
        return ""
    finding = f"The first layer with a non-finite output is {failed[0]}."
    if not residuals:
        return finding
    diverged = next((f"has diverged in {stage}" for stage, value in residuals.items() if value > 1), "has not diverged")
    listed = ", ".join(f"{stage} {value:.2g}" for stage, value in residuals.items())
    return f"{finding} Newton's iteration {diverged} (largest residual: {listed})."


def explain_gradient(model: nn.Module) -> str:
    """Return a sentence that names the first parameter, in the order of the backward pass, with a non-finite gradient.

    The gradients are those that the parameters hold.
    """
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if not wrong:
        return "The last batch gives finite numbers when it is repeated."
    return f"All layers' outputs are finite; in the backward pass, the first non-finite gradient is {wrong[-1]}'s."
