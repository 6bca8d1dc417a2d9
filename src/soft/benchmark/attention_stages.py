"""Attention alone at the sizes of a model's stages: every variant, and SOFT compared with its reference formulation."""

from collections.abc import Sequence
from statistics import median

import timm
import torch

from soft.attention import attention_options
from soft.benchmark.call_cost import MIB, peak_allocation
from soft.benchmark.cores import Core, reference_core
from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import interleave, ratio

# How many times faster `soft` should be than the reference formulation, forward and backward, by stage of soft_tiny.
TARGETS = (5, 2.5, 2)
MODES = ("forward", "train")


def compare_stages(
    reporter: Reporter,
    device: torch.device,
    model: str,
    names: Sequence[str],
    batch_size: int,
    layouts: Sequence[str],
    rounds: int,
) -> None:
    """Measure time and peak memory of each attention in stages 1 to 3 of `model`, at the model's own image size.

    The table has a row for each stage, attention and layout of the input (see `Core`); `train` is forward and backward.
    """
    published = {name: {"landmark_gain": 1.0} if "landmark_gain" in attention_options(name) else {} for name in names}
    models = {name: timm.create_model(model, attention=name, **published[name]).to(device) for name in names}
    rows = []
    for number in range(3):
        for layout in layouts:
            reporter.step(f"attention: stage {number + 1} of {model}, {layout}")
            cores: dict[str, Core] = {}
            reference = {}
            for name, whole in models.items():
                stage = whole.stages[number]
                attention, grid = stage.blocks[0].attn, stage.grid
                size = (batch_size, attention.num_heads, grid, device, layout)
                cores[name] = Core(attention.attend, list(attention.parameters()), *size)
                if core := reference_core(attention, grid):
                    reference[name] = Core(core.forward, list(core.parameters()), *size)
            calls = {(name, mode): getattr(core, mode) for name, core in cores.items() for mode in MODES}
            calls |= {
                ("reference " + name, mode): getattr(core, mode) for name, core in reference.items() for mode in MODES
            }
            times = interleave(calls, rounds, device, min_seconds=0.02)
            for name, core in cores.items():
                row = {"stage": number + 1, "tokens": grid[0] * grid[1], "attention": name, "layout": layout}
                for mode in MODES:
                    row[f"{mode}_ms"] = 1000 * median(times[name, mode])
                    known = times.get(("reference " + name, mode))
                    row[f"plain_{mode}_ms"] = 1000 * median(known) if known else None
                    row[f"{mode}_speedup"] = ratio(known, times[name, mode]) if known else None
                row["peak_mib"] = peak_allocation(core.train, device) / MIB
                row["plain_peak_mib"] = (
                    peak_allocation(reference[name].train, device) / MIB if name in reference else None
                )
                rows.append(row)
    reporter.table("attention_stages", f"Attention in the stages of {model}, batch {batch_size}", rows)
    for row in rows:
        if row["attention"] == "soft" and model == "soft_tiny":
            what = f"attention, stage {row['stage']}, {row['layout']}: forward+backward, times faster than plain"
            reporter.target(what, row["train_speedup"], minimum=TARGETS[row["stage"] - 1])
