"""The training that the examples of detection and segmentation share: AdamW, on one device."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from generated import Targets, generate
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """A published training; docs/transfer.md says what of it is the paper's."""

    size: tuple[int, ...]  # an image's side in pixels, or limits of its shorter and its longer side
    batch: int  # images of a step, on all GPUs together
    steps: int
    lr: float
    weight_decay: float
    warmup: int  # steps in which the rate rises from 0
    drops: tuple[int, ...] = ()  # steps at which the rate falls to a tenth
    power: float = 0.0  # the rate falls with (1 - step / steps) ** power

    def rate(self, step: int, steps: int) -> float:
        """Return the factor of `lr` at one of `steps` steps, to which the schedule is stretched."""
        step = step * self.steps / max(1, steps)
        fall = (1 - step / self.steps) ** self.power * 0.1 ** sum(step >= drop for drop in self.drops)
        return fall * min(1.0, (step + 1) / self.warmup)


def parse(words: list[str] | None, recipe: Recipe, size: tuple[int, ...], batch: int, steps: int) -> argparse.Namespace:
    """Return the options of an example, given their defaults, with which it takes half a minute on a CPU."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="soft_norm_tiny", help="a name of timm.list_models('soft_*')")
    parser.add_argument("--checkpoint", default="", help="the model's weights, ImageNet's in the recipe")
    parser.add_argument("--size", type=int, nargs=len(size), default=size, help=f"pixels; {recipe.size} in the recipe")
    parser.add_argument("--batch", type=int, default=batch, help=f"images of a step; {recipe.batch} in the recipe")
    parser.add_argument("--steps", type=int, default=steps, help=f"{recipe.steps} in the recipe")
    return parser.parse_args(words)


def train(
    model: nn.Module, loss: Callable[[list[Tensor], Targets], Tensor], recipe: Recipe, args: argparse.Namespace
) -> list[float]:
    """Train on generated images, print the loss of each step, and return these losses."""
    optimiser = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: recipe.rate(step, args.steps))
    losses = []
    for step in range(1, args.steps + 1):
        optimiser.zero_grad()
        value = loss(*generate(args.batch, min(args.size), max(args.size)))
        value.backward()
        optimiser.step()
        schedule.step()
        losses.append(value.item())
        print(f"step {step} of {args.steps}: loss {losses[-1]:.3f}")
    return losses
