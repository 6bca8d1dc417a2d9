import pytest
import timm
import torch
import torch.nn.functional as F

from soft.attention import ATTENTIONS
from soft.models.checkpoints import load_weights
from soft.models.key_names import to_official_keys
from tests.golden import fill, image
from tests.golden.plain import PlainSoft

STEPS, LEARNING_RATE = 4, 0.05


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_loss_curve_of_sgd_is_that_of_the_plain_formulas(attention):
    """Pico in train mode, on weights under the authors' keys, in float64."""
    model = timm.create_model("soft_pico", num_classes=10, attention=attention, dtype=torch.float64).train()
    shapes = {key: tuple(value.shape) for key, value in to_official_keys(model.state_dict()).items()}
    weights = {key: fill(key, shape) for key, shape in shapes.items()}
    load_weights(model, weights)
    images, labels = image(11, (4, 3, 32, 32)), torch.tensor([0, 3, 7, 9])
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    leaves = {key: value.clone() for key, value in weights.items()}
    trained = [leaves[key].requires_grad_() for key in to_official_keys(dict(model.named_parameters()))]
    plain = PlainSoft(leaves, attention == "soft_norm", num_landmarks=9, stem_strides=(2, 1, 1), train=True)

    losses = []
    for _ in range(STEPS):
        ours, theirs = F.cross_entropy(model(images), labels), F.cross_entropy(plain.logits(images), labels)
        losses.append((ours.item(), theirs.item()))
        optimizer.zero_grad()
        ours.backward()
        optimizer.step()
        with torch.no_grad():
            for leaf, gradient in zip(trained, torch.autograd.grad(theirs, trained), strict=True):
                leaf -= LEARNING_RATE * gradient
    assert losses[0][0] - losses[-1][0] > 0.1
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("attention", list(ATTENTIONS))
def test_every_attention_learns_a_batch_by_heart(attention):
    """Pico in train mode under AdamW, in a few steps and with every parameter moving."""
    torch.manual_seed(0)
    model = timm.create_model("soft_pico", num_classes=4, attention=attention)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    images, labels = image(11, (4, 3, 32, 32)).float(), torch.arange(4)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert not [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])]
