"""Speed and memory of whole models, compared with the reference model and with the rate of matrix products."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.benchmark.call_cost import MIB, count_flops, peak_allocation, total_bytes
from soft.benchmark.reference_model import ReferenceTransformer
from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import interleave, ratio
from soft.models.factory import check_model_name
from soft.models.inference import optimise_for_inference
from soft.models.key_names import to_official_keys
from soft.training.optim import build_optimizer, fuse_step

# (rows, inner, columns) of matrix products: squares, and the token maps of a stage. The best rate is the machine's.
PRODUCTS = ((1024, 1024, 1024), (2048, 2048, 2048), (6272, 320, 1280), (25088, 64, 256))
MODES = ("train", "inference")
MIN_RATE = 45  # target, percent of the machine's rate of matrix products
MAX_MEMORY = 0.5  # target, share of the reference model's memory


def measure_models(
    reporter: Reporter,
    device: torch.device,
    names: Sequence[str],
    batch_sizes: Sequence[int],
    img_sizes: Sequence[int],
    drop_path_rate: float,
    channels_last: bool,
    rounds: int,
) -> None:
    """Measure each model at each image size and batch size, in training and in inference.

    `train` is a whole step: forward, loss, backward, clipping, AdamW. `inference` runs our model after
    `optimise_for_inference`, and the reference model in eval mode.

    Args:
        names: SOFT models with the published attention.
        img_sizes: pixels that the models are built for.
        drop_path_rate: stochastic depth in training.
        channels_last: lay our convolutions' weights out channels-last in training, as trainer.channels_last does.
    """
    for name in names:
        check_model_name("model.names", name)
    product, shape, product_flops = best_product(device)
    rows = []
    for name in names:
        for img_size in img_sizes:
            for batch_size in batch_sizes:
                reporter.step(f"model: {name}, {img_size} px, batch {batch_size}")
                ours, reference = build_pair(name, img_size, drop_path_rate, device)
                if channels_last:
                    ours = ours.to(memory_format=torch.channels_last)
                images = torch.randn(batch_size, 3, img_size, img_size, device=device)
                steps = {"ours": TrainingStep(ours, images), "reference": TrainingStep(reference, images)}
                calls: dict[object, Callable[[], object]] = {"product": product}
                calls |= {(who, "train"): step.run for who, step in steps.items()}
                calls |= {
                    (who, "inference"): inference_call(model, images)
                    for who, model in (("ours", optimise_for_inference(ours)), ("reference", reference))
                }
                times = interleave(calls, rounds, device)
                for mode in MODES:
                    row = {"model": name, "img_size": img_size, "batch_size": batch_size, "mode": mode}
                    row |= _speed(times, mode, batch_size, count_flops(calls["ours", mode]), product_flops)
                    resting = {who: step.resting if mode == "train" else 0 for who, step in steps.items()}
                    peaks = {who: resting[who] + peak_allocation(calls[who, mode], device) for who in steps}
                    row |= {"peak_mib": peaks["ours"] / MIB, "plain_peak_mib": peaks["reference"] / MIB}
                    rows.append(row | {"memory_ratio": peaks["ours"] / peaks["reference"]})
    title = "Models; GFLOP: matrix products and convolutions of one image; product: float32, " + " x ".join(
        map(str, shape)
    )
    reporter.table("models", title, rows)
    for row in rows:
        if row["model"] == "soft_tiny" and row["mode"] == "train":
            what = f"soft_tiny training, {row['img_size']} px, batch {row['batch_size']}"
            reporter.target(f"{what}: % of the matrix-product rate", row["percent_of_product"], minimum=MIN_RATE)
            reporter.target(f"{what}: share of the plain model's memory", row["memory_ratio"], maximum=MAX_MEMORY)


def _speed(times: dict, mode: str, batch_size: int, flops: int, product_flops: int) -> dict[str, float]:
    """Return the columns that follow from the times of one mode; shares are medians over rounds."""
    ours, reference, product = times["ours", mode], times["reference", mode], times["product"]
    share = median((flops / a) / (product_flops / b) for a, b in zip(ours, product, strict=True))
    return {
        "images_per_s": batch_size / median(ours),
        "plain_images_per_s": batch_size / median(reference),
        "speedup": ratio(reference, ours),
        "gflop": flops / batch_size / 1e9,
        "gflop_per_s": flops / median(ours) / 1e9,
        "product_gflop_per_s": product_flops / median(product) / 1e9,
        "percent_of_product": 100 * share,
    }


def build_pair(
    name: str, img_size: int, drop_path_rate: float, device: torch.device
) -> tuple[nn.Module, ReferenceTransformer]:
    """Return model `name`, from the published start, and its reference counterpart with the same weights."""
    ours = timm.create_model(name, img_size=img_size, drop_path_rate=drop_path_rate, landmark_gain=1.0)
    attention = ours.stages[0].blocks[0].attn
    reference = ReferenceTransformer(
        to_official_keys(ours.state_dict()),
        stem_strides=tuple(layer.conv.stride[0] for layer in ours.stem),
        num_landmarks=attention.landmarks.num_landmarks,
        newton_iters=attention.newton_iters,
        normalised=attention.normalised,
        drop_path_rate=drop_path_rate,
    )
    return ours.to(device), reference.to(device)


class TrainingStep:
    """An optimiser step of a classifier that is always taken on the same batch of `images` (B, 3, H, W)."""

    def __init__(self, model: nn.Module, images: Tensor):
        self.model = model
        self.images = images
        self.labels = torch.arange(len(images), device=images.device)
        self.optimizer = fuse_step(build_optimizer(model, len(images), "adamw", lr=1e-3, weight_decay=0.05))
        self.run()  # makes the optimiser's state

    def run(self, autocast: AbstractContextManager | None = None) -> None:
        """Take the step, with the forward pass in the context `autocast`."""
        self.model.train()
        with autocast or nullcontext():
            loss = F.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @property
    def resting(self) -> int:
        """Return the bytes that are held between steps: parameters, buffers, the optimiser's state and the batch."""
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        tensors = [value for value in state if isinstance(value, Tensor)]
        return total_bytes([*self.model.parameters(), *self.model.buffers(), *tensors, self.images])


def inference_call(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return a call that runs one forward pass in eval mode."""

    def call() -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    return call


def best_product(device: torch.device) -> tuple[Callable[[], object], tuple[int, int, int], int]:
    """Return the fastest of `PRODUCTS`, float32 matrix products, as (call, shape, floating-point operations)."""
    calls = {}
    for rows, inner, columns in PRODUCTS:
        left, right = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        calls[rows, inner, columns] = lambda left=left, right=right: left @ right
    times = interleave(calls, 5, device, min_seconds=0.05)
    rates = {shape: 2 * shape[0] * shape[1] * shape[2] / median(seconds) for shape, seconds in times.items()}
    shape = max(rates, key=rates.get)
    return calls[shape], shape, 2 * shape[0] * shape[1] * shape[2]
