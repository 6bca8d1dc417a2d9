"""How the global batch of a recipe is laid over devices and accumulated micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass

from soft.errors import SettingError
from soft.settings import check_whole


@dataclass(frozen=True)
class BatchLayout:
    """One optimiser step: `devices` × `per_device` images × `accumulate` passes = the global batch."""

    devices: int  # over all nodes
    per_device: int  # images in one forward pass
    accumulate: int  # forward passes per optimiser step

    @property
    def global_batch(self) -> int:
        """Return the images per optimiser step."""
        return self.devices * self.per_device * self.accumulate

    def __str__(self) -> str:
        return f"{self.global_batch} = {self.devices} x {self.per_device} x {self.accumulate}"


@dataclass(frozen=True)
class RankPlan:
    """The part of one process in a layout."""

    rank: int
    node: int
    local_rank: int
    device: str  # cuda:3, cpu
    images: list[range]  # images of the first step as positions in the epoch's order, a range per accumulated pass


def lay_out_batch(global_batch: int, devices: int, max_per_device: int) -> BatchLayout:
    """Return the layout with the fewest accumulated passes whose per-device batch is at most `max_per_device`.

    Raises:
        SettingError: a size is below 1, or the global batch does not divide over the devices; the message names some
            sizes that do.
    """
    check_whole("data.batch_size", global_batch, low=1)
    check_whole("trainer.max_batch_per_device", max_per_device, low=1)
    if global_batch % devices:
        below = global_batch // devices * devices
        nearest = ", ".join(str(size) for size in (below, below + devices) if size)
        counts = ", ".join(str(n) for n in range(1, devices + 1) if global_batch % n == 0)
        raise SettingError(
            f"data.batch_size={global_batch} does not divide over {devices} devices. It would with a batch of "
            f"{nearest}, or with {counts} device{'s' if counts != '1' else ''}."
        )
    share = global_batch // devices
    accumulate = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= max_per_device)
    return BatchLayout(devices, share // accumulate, accumulate)


def plan_ranks(
    layout: BatchLayout, per_node: int, accelerator: str, indices: Sequence[int] | None = None
) -> list[RankPlan]:
    """Return the part of each of `layout.devices` processes, in the order of their ranks.

    Args:
        per_node: processes on a node.
        accelerator: as from `soft.hardware.devices.choose_accelerator`.
        indices: the numbers of a node's devices; None for 0, 1, 2 ...
    """
    ranks = []
    for rank in range(layout.devices):
        node, local_rank = divmod(rank, per_node)
        index = indices[local_rank] if indices else local_rank
        # soft.data.sampling.EpochSampler deals the images out in this order.
        starts = [(j * layout.devices + rank) * layout.per_device for j in range(layout.accumulate)]
        images = [range(start, start + layout.per_device) for start in starts]
        device = f"{accelerator}:{index}" if accelerator == "cuda" else accelerator
        ranks.append(RankPlan(rank, node, local_rank, device, images))
    return ranks


def check_validation_share(images: int, devices: int) -> None:
    """Refuse a validation set that leaves a device without an image, since the others would wait for that device."""
    if images < devices:
        raise SettingError(
            f"The {images} validation images leave some of {devices} devices without one. Take {images} devices or "
            "fewer, with trainer.devices and trainer.num_nodes."
        )
