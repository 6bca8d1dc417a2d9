"""How the global batch of a recipe is laid over devices and accumulated micro-batches."""

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
        """Images per optimiser step."""
        return self.devices * self.per_device * self.accumulate

    def __str__(self) -> str:
        return f"{self.global_batch} = {self.devices} x {self.per_device} x {self.accumulate}"


def lay_out_batch(global_batch: int, devices: int, max_per_device: int) -> BatchLayout:
    """The layout with the fewest accumulated passes whose per-device batch is at most `max_per_device`.

    Raises:
        SettingError: a size below 1, or a global batch that does not divide over the devices (names ones that do).
    """
    check_whole("data.batch_size", global_batch, least=1)
    check_whole("trainer.max_batch_per_device", max_per_device, least=1)
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


def check_validation_share(images: int, devices: int) -> None:
    """Refuse a validation set in which some device has no image: the others would wait for it."""
    if images < devices:
        raise SettingError(
            f"The {images} validation images leave some of {devices} devices without one. Take {images} devices or "
            "fewer, with trainer.devices and trainer.num_nodes."
        )
