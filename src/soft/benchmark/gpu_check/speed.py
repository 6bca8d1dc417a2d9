"""How fast the attention core, its parts and whole training steps are, beside other forms of the same."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from statistics import median

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention import create_attention
from soft.attention.fast.early_stop import fast_inverse
from soft.attention.kernels.availability import why_not
from soft.attention.newton import kernel_inverse
from soft.benchmark.call_cost import peak_allocation
from soft.benchmark.cores import HEAD_WIDTH, Core, reference_core
from soft.benchmark.gpu_check.measured import Check, Measured
from soft.benchmark.model_speed import TrainingStep, build_pair
from soft.benchmark.timing import interleave, ratio, wait
from soft.hardware.float32 import multiply_float32_as

# Stages 1 to 3 of soft_tiny at 224 px: side of the grid in tokens, heads, and size of V's convolution.
STAGES = {1: (56, 2, 9), 2: (28, 4, 5), 3: (14, 10, 3)}
CORE_MINIMUM = {1: 3.0, 3: 4.0}  # times as fast as PyTorch's operations one by one, by stage
NEWTON_MINIMUM = 5.0
ROUNDS = 7
MIB = 2**20


def measure_cores(check: Check) -> Iterator[Measured]:
    """Yield the time of a core's forward and backward pass in each stage, and of what it is compared with."""
    batch, scale = (1, 4) if check.small else (128, 1)
    for stage, (side, heads, conv_size) in STAGES.items():
        grid = (side // scale, side // scale)
        landmarks = 49 if grid[0] >= 7 and not check.small else 4
        options = {"num_landmarks": landmarks, "newton_iters": 20}
        attention = create_attention("soft", heads * HEAD_WIDTH, heads, grid, conv_size, **options).to(check.device)
        parameters = [p for name, p in attention.named_parameters() if name.startswith(("landmarks", "local"))]
        calls: dict[str, Callable[[], object]] = {}
        reference = reference_core(attention, grid)
        forms = {"eager": (attention.compose, parameters), "reference": (reference.forward, [*reference.parameters()])}
        for kernels in _kernels(check):
            own = copy.deepcopy(attention)
            own.kernels = kernels
            trained = [p for name, p in own.named_parameters() if name.startswith(("landmarks", "local"))]
            forms[kernels] = (own.attend, trained)
        for name, (form, own) in forms.items():
            calls[name] = Core(form, own, batch, heads, grid, check.device).train
        calls["SDPA bf16"] = _sdpa(batch, heads, grid[0] * grid[1], check.device)
        times = interleave(calls, _rounds(check), check.device)
        tokens = f"stage {stage}, {grid[0] * grid[1]} tokens"
        for name, seconds in times.items():
            yield Measured(f"core, {tokens}, {name}", 1000 * median(seconds), "ms forward and backward")
        goal = None if check.small or not check.on_gpu else CORE_MINIMUM.get(stage)
        ours = min((times[kernels] for kernels in _kernels(check)), key=median)
        yield Measured(f"core, {tokens}: eager over ours", ratio(times["eager"], ours), "times", minimum=goal)
        yield Measured(f"core, {tokens}: SDPA bf16 over ours", ratio(times["SDPA bf16"], ours), "times")


def _rounds(check: Check) -> int:
    return 1 if check.small else ROUNDS


def _kernels(check: Check) -> tuple[str, ...]:
    """Return the kernels that run on the device."""
    return ("torch",) if why_not(check.device) else ("torch", "triton")


def _sdpa(batch: int, heads: int, tokens: int, device: torch.device) -> Callable[[], object]:
    shape = (batch, heads, tokens, HEAD_WIDTH)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    cotangent = torch.randn(shape, device=device, dtype=torch.bfloat16)

    def call() -> None:
        torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), cotangent)

    return call


def measure_newton(check: Check) -> Iterator[Measured]:
    """Yield the time of the Newton-Raphson inverse of a step's matrices, and its error against float64."""
    matrices, m = (8, 16) if check.small else (128 * 10, 49)
    landmarks = torch.randn(matrices, m, HEAD_WIDTH, device=check.device) * 0.35
    a = torch.exp(-0.5 * torch.cdist(landmarks, landmarks).square())[:, None]
    calls = {
        "eager": lambda: kernel_inverse(a, "newton", 20, False),
        "torch": lambda: fast_inverse(a),
    }
    if why_not(check.device) is None:
        from soft.attention.kernels.launches import invert  # imports Triton

        calls["triton"] = lambda: invert(a)
    with torch.no_grad():
        times = interleave(calls, _rounds(check), check.device)
        exact = kernel_inverse(a.double(), "newton", 20, False)
        for name, seconds in times.items():
            error = ((calls[name]().double() - exact).norm() / exact.norm()).item()
            yield Measured(f"Newton, {matrices} x {m} x {m}, {name}", 1000 * median(seconds), "ms", note=f"{error:.1e}")
    goal = NEWTON_MINIMUM if check.on_gpu and not check.small else None
    ours = min((times[kernels] for kernels in _kernels(check)), key=median)
    yield Measured("Newton: eager over ours", ratio(times["eager"], ours), "times", minimum=goal)


def measure_convolutions(check: Check) -> Iterator[Measured]:
    """Yield the time of the depthwise convolution of V, forward and backward, by its layout in memory and by kernel."""
    batch = 2 if check.small else 128
    for stage, (side, heads, size) in STAGES.items():
        side, channels = side // 4 if check.small else side, heads * HEAD_WIDTH
        image = torch.randn(batch, channels, side, side, device=check.device)
        filters = torch.randn(channels, 1, size, size, device=check.device, requires_grad=True)
        calls = {}
        for layout, form in (("NHWC", torch.channels_last), ("NCHW", torch.contiguous_format)):
            given = image.to(memory_format=form).requires_grad_()
            for kernel in ("cudnn", "cudnn, chosen by trial", "native") if check.on_gpu else ("default",):
                calls[f"{layout}, {kernel}"] = _convolution(given, filters, kernel)
        times = interleave(calls, _rounds(check), check.device)
        for name, seconds in times.items():
            yield Measured(f"convolution {size}x{size}, stage {stage}, {name}", 1000 * median(seconds), "ms")


def _convolution(image: Tensor, filters: Tensor, kernel: str) -> Callable[[], object]:
    cotangent = torch.randn_like(image)

    def call() -> None:
        flags = {"enabled": kernel != "native", "benchmark": kernel.endswith("trial"), "allow_tf32": False}
        with torch.backends.cudnn.flags(**flags) if kernel != "default" else nullcontext():
            out = F.conv2d(image, filters, None, 1, filters.shape[-1] // 2, 1, len(filters))
            torch.autograd.grad(out, (image, filters), cotangent)

    return call


def measure_steps(check: Check) -> Iterator[Measured]:
    """Yield images per second of whole training steps, and peak memory, by model, precision and compilation."""
    if check.small:
        batches, size, others = {"soft_pico": 2}, 32, ()
    else:
        batches, size, others = {"soft_tiny": 128, "soft_medium": 32}, 224, ("deit_tiny_patch16_224", "pvt_v2_b1")
    for name, batch in batches.items():
        images = torch.randn(batch, 3, size, size, device=check.device)
        ours, reference = build_pair(name, size, 0.1, torch.device("cpu"))
        models = {name: ours, f"{name}, reference form": reference}
        models |= {other: timm.create_model(other) for other in (others if name == "soft_tiny" else ())}
        speeds: dict[tuple[str, str, str], float] = {}
        for label, model in models.items():
            for precision in _precisions(check):
                for how in ("eager", "compiled", "graph") if label == name and not check.small else ("eager",):
                    if precision == "tf32" and how != "eager":
                        continue  # refused in training: the compiler would round inside the core
                    speed, peak = _step_speed(copy.deepcopy(model).to(check.device), images, precision, how, check)
                    speeds[label, precision, how] = speed
                    what = f"training step, {label}, batch {batch}, {precision}, {how}"
                    yield Measured(what, speed, "images/s", note=f"peak {peak / MIB:,.0f} MiB")
                    if how == "graph" and precision == "bf16":
                        goal = {"soft_tiny": 1.3, "soft_medium": 1.6}[name] if check.on_gpu else None
                        best = max(speeds[label, precision, form] for form in ("compiled", "graph"))
                        faster = best / speeds[label, precision, "eager"]
                        yield Measured(f"{label}, bf16: best over eager", faster, "times", minimum=goal)


def _precisions(check: Check) -> tuple[str, ...]:
    return ("ieee", "tf32", "bf16") if check.on_gpu else ("ieee", "bf16")


def _step_speed(model: nn.Module, images: Tensor, precision: str, how: str, check: Check) -> tuple[float, int]:
    """Return images per second and the peak of the bytes that a step allocates."""
    multiply_float32_as("tf32" if precision == "tf32" else "ieee")
    try:
        step = TrainingStep(model.to(memory_format=torch.channels_last), images)
        if how != "eager":
            step.model = torch.compile(model, mode="reduce-overhead" if how == "graph" else None)
        on = precision == "bf16"

        def call() -> None:
            step.run(torch.autocast(check.device.type, torch.bfloat16, enabled=on))

        for _ in range(1 if check.small else 3):
            call()
        seconds = median(interleave({0: call}, _rounds(check), check.device)[0])
        peak = peak_allocation(call, check.device)
    finally:
        multiply_float32_as("ieee")
        wait(check.device)
        torch._dynamo.reset()
    return len(images) / seconds, peak
