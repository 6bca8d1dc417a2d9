"""Float32 numbers are multiplied as asked during a whole training step, and exactly in the attention core."""

import pytest
import torch
from lightning.pytorch import Callback

from soft.attention.fast import fused
from soft.errors import SettingError
from soft.hardware.float32 import multiply_float32_as
from soft.launch.trainer_settings import check_trainer_settings
from tests.training.small_run import train


@pytest.fixture(autouse=True)
def flags_as_they_were():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def flags() -> tuple[bool, bool]:
    """Return whether matrix products and convolutions may round to TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


class Watch(Callback):
    """Callback that notes the flags in the forward and backward pass of a linear map, and in the optimiser's step."""

    def __init__(self):
        self.seen = set()

    def on_train_start(self, trainer, module):
        layer = module.model.head
        layer.register_forward_hook(lambda *_: self.seen.add(("forward", *flags())))
        layer.register_full_backward_hook(lambda *_: self.seen.add(("backward", *flags())))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.add(("step", *flags()))


@pytest.mark.parametrize("mode", ["ieee", "tf32"])
@pytest.mark.parametrize("image_allows_it", [False, True])  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE does
def test_flags_of_a_training_step(mode, image_allows_it, tmp_path, monkeypatch):
    torch.set_float32_matmul_precision("high" if image_allows_it else "highest")
    core = set()
    for name in ("gaussian_kernel", "filter_gradient"):  # one of the core's forward and one of its backward pass
        inner = getattr(fused, name)

        def watched(*args, inner=inner, name=name):
            core.add((name, flags()[0]))
            return inner(*args)

        monkeypatch.setattr(fused, name, watched)
    watch = Watch()

    train(tmp_path, watch, epochs=1, trainer_options={"float32": mode})

    rounded = mode == "tf32"
    assert watch.seen == {(moment, rounded, rounded) for moment in ("forward", "backward", "step")}
    assert core == {("gaussian_kernel", False), ("filter_gradient", False)}


def test_what_is_measured_of_the_core_is_exact_too(monkeypatch):
    from soft.attention import soft

    multiply_float32_as("tf32")
    seen, inner = set(), soft.gaussian_kernel
    monkeypatch.setattr(soft, "gaussian_kernel", lambda *args: (seen.add(flags()[0]), inner(*args))[1])
    attention = soft.SoftAttention(32, 1, (4, 4), 3, 4)

    attention.kernel_mean(torch.randn(1, 16, 32), (4, 4))
    attention.branches(torch.randn(1, 16, 32), (4, 4))
    attention.newton_residual(torch.randn(1, 16, 32), (4, 4))

    assert seen == {False}
    assert flags() == (True, True)


def test_an_unknown_mode_and_a_compiled_one_are_refused():
    with pytest.raises(SettingError, match=r"float32='tf16' .*ieee.*tf32"):
        multiply_float32_as("tf16")
    with pytest.raises(SettingError, match=r"trainer.float32=tf32 is not for compiled trainings"):
        check_trainer_settings({"float32": "tf32", "compile": True})
