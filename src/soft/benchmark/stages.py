"""Attention by itself at the sizes of a model's stages: every variant, and SOFT against its plain formulation."""

from collections.abc import Sequence
from statistics import median

import timm
import torch

from soft.benchmark.cores import Core, plain_core
from soft.benchmark.memory import MIB, peak_memory
from soft.benchmark.report import Report
from soft.benchmark.timing import interleave, ratio

# Forward and backward of `soft` against the plain formulation, by stage of soft_tiny at batch 8.
TARGETS = (5, 2.5, 2)
MODES = ("forward", "train")


def compare_stages(
    report: Report,
    device: torch.device,
    model: str,
    names: Sequence[str],
    batch_size: int,
    layouts: Sequence[str],
    rounds: int,
) -> None:
    """Times and peak memory of each attention of `names` in stages 1 to 3 of `model`, at its own image size.

    A row is one stage, attention and layout of the input (see `Core`); `train` is forward and backward.
    """
    models = {name: timm.create_model(model, attention=name).to(device) for name in names}
    rows = []
    for number in range(3):
        for layout in layouts:
            report.step(f"attention: stage {number + 1} of {model}, {layout}")
            cores: dict[str, Core] = {}
            plain = {}
            for name, whole in models.items():
                stage = whole.stages[number]
                attention, grid = stage.blocks[0].attn, stage.grid
                size = (batch_size, attention.num_heads, grid, device, layout)
                cores[name] = Core(attention.attend, list(attention.parameters()), *size)
                if core := plain_core(attention, grid):
                    plain[name] = Core(core.forward, list(core.parameters()), *size)
            calls = {(name, mode): getattr(core, mode) for name, core in cores.items() for mode in MODES}
            calls |= {("plain " + name, mode): getattr(core, mode) for name, core in plain.items() for mode in MODES}
            times = interleave(calls, rounds, device, least=0.02)
            for name, core in cores.items():
                row = {"stage": number + 1, "tokens": grid[0] * grid[1], "attention": name, "layout": layout}
                for mode in MODES:
                    row[f"{mode}_ms"] = 1000 * median(times[name, mode])
                    known = times.get(("plain " + name, mode))
                    row[f"plain_{mode}_ms"] = 1000 * median(known) if known else None
                    row[f"{mode}_speedup"] = ratio(known, times[name, mode]) if known else None
                row["peak_mib"] = peak_memory(core.train, device) / MIB
                row["plain_peak_mib"] = peak_memory(plain[name].train, device) / MIB if name in plain else None
                rows.append(row)
    report.table("attention_stages", f"Attention in the stages of {model}, batch {batch_size}", rows)
    for row in rows:
        if row["attention"] == "soft" and model == "soft_tiny":
            what = f"attention, stage {row['stage']}, {row['layout']}: forward+backward, times faster than plain"
            report.target(what, row["train_speedup"], least=TARGETS[row["stage"] - 1])
