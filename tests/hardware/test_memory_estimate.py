import copy
import gc

import pytest
import torch

from soft.attention.fast.selection import eager_core, shapes_core
from soft.attention.soft import SoftAttention
from soft.data.augmentation import Augmentation
from soft.hardware.layout import BatchLayout
from soft.hardware.memory_estimate import LiveBytes, estimate_memory
from soft.models.factory import create_from_config
from soft.training.module import ImageClassifier
from tests.attention.kernels.interpreter import interpreted

MIB = 2**20


def classifier(name: str = "soft_pico", ema: float = 0.99, checkpointing: bool = False, **optimizer) -> ImageClassifier:
    attention = {"num_landmarks": 9 if name == "soft_pico" else 49}
    model = create_from_config({"name": name, "grad_checkpointing": checkpointing, "attention": attention}, 10)
    return ImageClassifier(
        model,
        Augmentation(mixup=0.8, label_smoothing=0.1),
        {"opt": "adamw", "lr": 1e-3, **optimizer},
        {"sched": "cosine", "epochs": 2},
        BatchLayout(1, 16, 1),
        steps_per_epoch=10,
        ema_decay=ema,
    )


def estimate(module: ImageClassifier, batch: int = 16, accumulate: int = 1, **options):
    return estimate_memory(module, (3, 32, 32), BatchLayout(1, batch, accumulate), val_batch=8, **options)


def test_storages_count_once_and_while_they_live():
    with LiveBytes() as live:
        a = torch.empty(256)
        b = a.view(16, 16)[2:]
        assert live.now == 1024
        c = a + 1
        a.add_(1)
        assert live.now == 2048
        del a, c
        assert live.now == 1024  # b still holds it
        del b
    assert (live.now, live.peak) == (0, 2048)


def test_lasting_parts_are_what_the_module_has():
    module = classifier()
    memory = estimate(module, gpu=True)
    parameters = sum(parameter.nbytes for parameter in module.model.parameters())
    buffers = sum(buffer.nbytes for buffer in module.model.buffers())
    assert memory.weights == memory.averages == parameters + buffers
    assert memory.gradients == parameters
    assert 2 * parameters <= memory.optimizer <= 2.01 * parameters  # two moments, and counters of steps
    assert memory.checkpoint == memory.weights + memory.averages + memory.optimizer
    assert memory.training > memory.checkpoint + memory.gradients + 10 * MIB
    assert memory.process == 0


@pytest.mark.slow
def test_what_changes_the_estimate():
    base = estimate(classifier(), gpu=True)
    assert estimate(classifier(), gpu=True, ddp=True).training == base.training + base.gradients
    assert estimate(classifier(ema=0.0), gpu=True).averages == 0
    assert estimate(classifier(opt="sgd"), gpu=True).optimizer == pytest.approx(base.gradients, rel=0.01)
    assert estimate(classifier(), batch=32, gpu=True).activations == pytest.approx(2 * base.activations, rel=0.05)
    # In soft_pico one block is as much as all that is kept.
    deep, kept = (
        estimate_memory(classifier("soft_tiny", checkpointing=on), (3, 224, 224), BatchLayout(1, 8, 1), 1, gpu=True)
        for on in (False, True)
    )
    assert kept.activations < 0.9 * deep.activations
    # Gradients of the first pass are there in the second.
    assert estimate(classifier(), accumulate=2, gpu=True).training >= base.training
    assert estimate(classifier(), gpu=True, precision="64-true").training == pytest.approx(2 * base.training, rel=0.01)
    here = estimate(classifier())
    assert here.training - here.process == pytest.approx(base.training, rel=0.01)
    assert here.activations == pytest.approx(base.activations, rel=0.01)
    assert here.process > 200 * MIB  # PyTorch alone


@pytest.mark.slow
def test_autocast():
    full = estimate(classifier(), gpu=True).activations
    mixed = estimate(classifier(), gpu=True, precision="bf16-mixed")
    # Hidden activations are kept in half precision, and not computed again as in float32.
    assert 0.5 * full < mixed.activations < 1.2 * full
    assert mixed.weights == estimate(classifier()).weights  # kept in float32


def test_nothing_is_touched():
    module = classifier()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    states = torch.get_rng_state()
    estimate(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not module.configure_optimizers()["optimizer"].state
    assert torch.equal(torch.get_rng_state(), states)


def with_kernels(kernels: str) -> ImageClassifier:
    """soft_tiny at 224 px with a choice of kernels."""
    module = classifier("soft_tiny")
    for attention in module.model.modules():
        if isinstance(attention, SoftAttention):
            attention.kernels = kernels
    return module


@pytest.mark.slow
@interpreted
def test_kernels_keep_no_tensor_of_tokens_and_landmarks():
    def activations(choice: str, **options: bool) -> int:
        layout = BatchLayout(1, 4, 1)
        return estimate_memory(with_kernels(choice), (3, 224, 224), layout, 4, gpu=True, **options).activations

    # P of the first stage: 4 images, 2 heads, 3,136 tokens, 49 landmarks, float32.
    p = 4 * 2 * 3136 * 49 * 4
    assert activations("auto") - activations("auto", kernels=True) > p
    assert activations("torch", kernels=True) == activations("torch") == activations("auto")


@interpreted
def test_the_estimate_counts_what_the_kernels_keep():
    attention = SoftAttention(16, 2, (8, 8), 3, num_landmarks=9, kernels="triton").requires_grad_(False)

    def kept(core, device: str) -> int:
        module, x = copy.deepcopy(attention).to(device), torch.randn(2, 2, 64, 8, device=device, requires_grad=True)
        module.core = core
        with LiveBytes() as live:
            out = module.attend(x, x, (8, 8))
        assert out.grad_fn is not None
        gc.collect()  # the interpreter leaves tensors in circles
        return live.now

    filters = attention.local.weight.nbytes  # the autograd function copies them
    assert kept(shapes_core, "meta") == kept(eager_core, "cpu") - filters
