"""What the compiler says of the models: one graph, nothing that waits for the device."""

import pytest
import timm
import torch

from tests.marks import slow


@pytest.mark.parametrize("train", [True, slow(False)], ids=["train", "eval"])
@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_one_graph(attention, train):
    torch._dynamo.reset()
    # One block of each stage, and few of the steps that a graph repeats.
    options = {"depths": (1, 1, 1, 1), "newton_iters": 3, "drop_path_rate": 0.1}
    model = timm.create_model("soft_pico", attention=attention, **options).train(train)
    report = torch._dynamo.explain(model)(torch.randn(2, 3, 32, 32))
    assert report.graph_count == 1, report.break_reasons
    assert report.graph_break_count == 0, report.break_reasons


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_nothing_waits_for_the_device(attention):
    """Tensors without values: reading one, as .item() does, fails."""
    model = timm.create_model("soft_pico", attention=attention, device="meta")
    model(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()
    with pytest.raises(RuntimeError):
        torch.empty(1, device="meta").item()
