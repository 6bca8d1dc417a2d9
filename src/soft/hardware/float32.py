"""How GPUs multiply float32 numbers: exactly, or rounded to TF32 first."""

import torch

from soft.settings import check_choice

FLOAT32 = ("ieee", "tf32")


def multiply_float32_as(mode: str, setting: str = "float32") -> None:
    """Choose for this process how GPUs multiply float32 numbers in matrix products and convolutions.

    TF32 rounds both factors to 10 bits after the point; GPUs from Ampere on multiply such numbers several times as
    fast. PyTorch does so in convolutions unless told otherwise, and some container images switch it on for matrix
    products too (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`); neither matters after this call. On CPUs nothing is rounded.

    Args:
        mode: `ieee`, or `tf32`. SOFT's core computes as with `ieee` either way, see `soft.attention.precision`; other
            attentions round too.
        setting: the name of `mode`, for the message.

    Raises:
        SettingError: `mode` is neither.
    """
    check_choice(setting, mode, FLOAT32)
    # The newer `fp32_precision` is not used: PyTorch refuses to read these flags after it has set a part of them, and
    # Lightning and the compiler read them.
    torch.set_float32_matmul_precision("highest" if mode == "ieee" else "high")
    torch.backends.cudnn.allow_tf32 = mode == "tf32"
