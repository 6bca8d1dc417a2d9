import pytest
import timm
import torch
import torch.nn.functional as F

from soft.attention import ATTENTIONS
from soft.attention.reference import gaussian_kernel
from soft.benchmark.reference_model import ReferenceTransformer
from soft.models.checkpoints import load_weights
from soft.models.key_names import to_official_keys
from tests.golden import fill, image

STEPS, LEARNING_RATE = 4, 0.05


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_loss_curve_of_sgd_is_that_of_the_reference(attention):
    """Pico in train mode, on weights under the authors' keys, in float64."""
    options = {"attention": attention, "global_scale": "sum"}
    model = timm.create_model("soft_pico", num_classes=10, dtype=torch.float64, **options).train()
    shapes = {key: tuple(value.shape) for key, value in to_official_keys(model.state_dict()).items()}
    weights = {key: fill(key, shape) for key, shape in shapes.items()}
    load_weights(model, weights)
    images, labels = image(11, (4, 3, 32, 32)), torch.tensor([0, 3, 7, 9])
    sizes = {"num_landmarks": 9, "stem_strides": (2, 1, 1)}
    reference = ReferenceTransformer(weights, normalised=attention == "soft_norm", gaussian=gaussian_kernel, **sizes)

    losses = []
    for each in (model, reference.train()):
        optimizer = torch.optim.SGD(each.parameters(), LEARNING_RATE)
        losses.append([])
        for _ in range(STEPS):
            loss = F.cross_entropy(each(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    ours, theirs = losses
    assert ours[0] - ours[-1] > 0.1
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
