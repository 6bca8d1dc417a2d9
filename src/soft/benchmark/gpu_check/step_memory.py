"""The memory that a plan expects of a training, beside what its steps really take."""

from collections.abc import Iterator

import timm
import torch

from soft.attention.kernels.availability import why_not
from soft.benchmark.call_cost import MIB, peak_allocation
from soft.benchmark.gpu_check.measured import Check, Measured
from soft.data.augmentation import Augmentation
from soft.hardware.layout import BatchLayout
from soft.hardware.memory_estimate import estimate_memory
from soft.training.module import ImageClassifier

NEAR = 15.0  # percent


def measure_memory(check: Check) -> Iterator[Measured]:
    """Yield the expected and the measured peak of a training step in float32 and bfloat16."""
    cases = {"soft_pico": 8} if check.small else {"soft_tiny": 128, "soft_medium": 32}
    for name, batch in cases.items():
        size = 64 if check.small else 224
        for precision in ("32-true", "bf16-mixed"):
            model = timm.create_model(name, img_size=size, **({"num_landmarks": 16} if check.small else {}))
            layout = BatchLayout(1, batch, 1)
            module = ImageClassifier(
                model,
                Augmentation(),
                {"opt": "adamw", "lr": 1e-3},
                {"sched": "constant", "epochs": 1},
                layout,
                1,
                ema_decay=0.999,
            )
            kernels = check.on_gpu and why_not(check.device) is None
            expected = estimate_memory(
                module, (3, size, size), layout, batch, precision, gpu=check.on_gpu, kernels=kernels
            )
            module = module.to(check.device)
            measured = _peak_of_step(module, batch, size, precision, check)
            # What a process takes besides its tensors is no part of the measured peak.
            share = 100 * ((expected.training - expected.process) / measured - 1)
            what = f"memory of a step, {name}, batch {batch}, {precision}"
            yield Measured(what, measured / MIB, "MiB")
            bounds = {"minimum": -NEAR, "maximum": NEAR} if check.on_gpu else {}
            yield Measured(f"{what}: expected over measured", share, "percent more", **bounds)
            del module, model


def _peak_of_step(module: ImageClassifier, batch: int, size: int, precision: str, check: Check) -> int:
    """Return the most bytes that are held during a step: those between steps and, on top, the peak of what it takes."""
    optimizer = module.configure_optimizers()["optimizer"]
    images = torch.randn(batch, 3, size, size, device=check.device)
    labels = torch.arange(batch, device=check.device)

    def step() -> None:
        module.train()
        with torch.autocast(check.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = module.train_loss(module.model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.model.parameters(), 1.0)
        optimizer.step()
        module.ema.update(module.model, step=1)

    step()
    held = sum(t.nbytes for t in (*module.parameters(), *module.buffers(), images))
    held += sum(p.grad.nbytes for p in module.model.parameters() if p.grad is not None)
    held += sum(v.nbytes for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor))
    return held + peak_allocation(step, check.device)
