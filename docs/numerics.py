"""Measure what docs/numerics.md states: `python -m docs.numerics` prints its tables and draws numerics.png."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import matplotlib.pyplot as plt
import timm
import torch
from torch import Tensor

from soft.attention.gaussian import gaussian_kernel
from soft.attention.newton import add_ridge, newton_inverse, plain_alpha
from soft.models import SoftTransformer
from soft.models.checkpoints import load_weights
from tests.golden import MODEL_CASES, golden, image, official_weights, relative_error

PRECISIONS = ("float32", "bfloat16 autocast", "float16 autocast")
DEPTHS = ("soft_tiny", "soft_medium", "soft_large", "soft_huge", "soft_norm_huge")
ITERS = tuple(range(0, 41, 2))


def build(case: str, dtype: torch.dtype) -> tuple[SoftTransformer, Tensor]:
    """Return the golden case's model with its weights, and its images."""
    info = MODEL_CASES[case]
    model = timm.create_model(info["model"], dtype=dtype).eval()
    load_weights(model, official_weights(info["model"]))
    return model, image(info["image_seed"], (info["batch"], 3, info["resolution"], info["resolution"])).to(dtype)


def context(precision: str) -> AbstractContextManager:
    """Return autocast on the CPU if `precision` asks for it, else a context that does nothing."""
    name, _, autocast = precision.partition(" ")
    return torch.autocast("cpu", getattr(torch, name)) if autocast else nullcontext()


def logits_and_gradient(case: str, precision: str) -> tuple[Tensor, Tensor]:
    """Return the logits, and the gradient of the golden loss with respect to all parameters as one vector."""
    model, images = build(case, torch.float64 if precision == "float64" else torch.float32)
    with context(precision):
        logits = model(images)
    weights = image(MODEL_CASES[case]["image_seed"] + 1, tuple(logits.shape))
    (logits.double() * weights).sum().backward()
    return logits.detach(), torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


def precision_errors() -> dict[str, list[tuple[float, float]]]:
    """Return by case the relative errors of (logits, gradient) against float64, one pair per precision."""
    errors = {}
    for case in MODEL_CASES:
        exact = logits_and_gradient(case, "float64")
        errors[case] = [
            tuple(map(relative_error, logits_and_gradient(case, precision), exact)) for precision in PRECISIONS
        ]
    return errors


def kernels() -> dict[str, Tensor]:
    """Return kernels (6, 49, 49) between landmarks: the golden ones, and those of landmarks that nearly coincide."""
    landmarks = 0.01 * image(1, (6, 49, 32))
    return {
        "well conditioned": golden("newton_well.A").flatten(0, 1),
        "badly conditioned": golden("newton_ill.A").flatten(0, 1),
        "landmarks coincide": gaussian_kernel(landmarks, landmarks),
    }


def newton_residuals(a: Tensor, ridge: bool) -> list[float]:
    """Return the mean ‖I − A·A⁺‖_F / √m after each T of ITERS."""
    inverted = add_ridge(a, normalised=not ridge)
    iterates = (newton_inverse(inverted, plain_alpha(a) * inverted, iters) for iters in ITERS)
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    return [((eye - inverted @ y).flatten(-2).norm(dim=-1).mean() / a.shape[-1] ** 0.5).item() for y in iterates]


def stage_residuals(case: str) -> list[float]:
    """Return the residual of each stage's first block in a golden model, as training logs it."""
    model, images = build(case, torch.float32)
    found = []
    for stage in model.stages[:3]:
        stage.blocks[0].attn.register_forward_pre_hook(
            lambda attention, inputs: found.append(attention.newton_residual(*inputs).mean().item())
        )
    with torch.no_grad():
        model(images)
    return found


def neighbour_errors(case: str) -> tuple[float, float]:
    """Return the relative change of an image's logits, in float64 and float32, when wild neighbours join it."""
    errors = []
    for dtype in (torch.float64, torch.float32):
        model, images = build(case, dtype)
        batch = torch.stack([images[0], torch.full_like(images[0], 0.5), 100 * images[0].flip(-1)])
        with torch.no_grad():
            errors.append(relative_error(model(batch)[:1], model(batch[:1])))
    return tuple(errors)


def depth_errors(name: str) -> tuple[int, float, float]:
    """Return the number of blocks, and the change of logits from float32 weights, then from float32 arithmetic."""
    weights = official_weights.__wrapped__(name)
    single = timm.create_model(name).eval()
    load_weights(single, weights)
    double = timm.create_model(name, dtype=torch.float64).eval()
    images = image(3, (1, 3, 224, 224)).float()
    with torch.no_grad():
        load_weights(double, weights)
        exact = double(images.double())
        load_weights(double, single.state_dict())
        rounded = double(images.double())
        blocks = sum(len(stage.blocks) for stage in single.stages)
        return blocks, relative_error(rounded, exact), relative_error(single(images), rounded)


def draw(errors: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw the residual against T on the left, and the relative errors by precision on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for i, (label, a) in enumerate(kernels().items()):
        left.semilogy(ITERS, newton_residuals(a, True), f"C{i}", label=label)
        left.semilogy(ITERS, newton_residuals(a, False), f"C{i}", linestyle="--")
    left.axvline(20, color="grey", linewidth=0.8)
    left.set(xlabel="Newton iterations T", ylabel="‖I − A·A⁺‖ / √m", title="Inverse in float64 (dashed: without ridge)")
    left.set_ylim(1e-15, 3)
    left.legend()
    for i, (case, pairs) in enumerate(errors.items()):
        for marker, values, what in zip("o^", zip(*pairs, strict=True), ("logits", "gradient"), strict=True):
            right.semilogy(PRECISIONS, values, marker, color=f"C{i}", label=f"{case}, {what}")
    right.margins(x=0.15)
    right.set(ylabel="relative error against float64", title="Golden models")
    right.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables and draw the figure."""
    errors = precision_errors()
    print("| case |", " | ".join(PRECISIONS), "|\n|---|" + "---|" * len(PRECISIONS))
    for case, pairs in errors.items():
        print(f"| {case} |", " | ".join(f"{logits:.1e}, {gradient:.1e}" for logits, gradient in pairs), "|")

    print("\n| A | condition | with ridge | T = 20 | T = 40 | without, T = 20 |\n|---|---|---|---|---|---|")
    for label, a in kernels().items():
        with_ridge, without = newton_residuals(a, True), newton_residuals(a, False)
        before, after = (torch.linalg.cond(m).mean().item() for m in (a, add_ridge(a, False)))
        residuals = (with_ridge[ITERS.index(20)], with_ridge[ITERS.index(40)], without[ITERS.index(20)])
        print(f"| {label} | {before:.1e} | {after:.1e} |", " | ".join(f"{value:.1e}" for value in residuals), "|")

    print("\n| case | residual of stages 1, 2, 3 | change beside neighbours: float64, float32 |\n|---|---|---|")
    for case in MODEL_CASES:
        residuals = ", ".join(f"{value:.1e}" for value in stage_residuals(case))
        print(f"| {case} | {residuals} |", ", ".join(f"{value:.1e}" for value in neighbour_errors(case)), "|")

    print("\n| model | blocks | weights rounded to float32 | float32 arithmetic |\n|---|---|---|---|")
    for name in DEPTHS:
        blocks, rounding, arithmetic = depth_errors(name)
        print(f"| {name} | {blocks} | {rounding:.1e} | {arithmetic:.1e} |")
    draw(errors, Path(__file__).with_name("numerics.png"))


if __name__ == "__main__":
    main()
