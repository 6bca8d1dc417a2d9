import pytest
import timm
import torch


@pytest.fixture(scope="session")
def drawn_weights() -> dict[str, torch.Tensor]:
    """Pico's weights; every tensor drawn, so that no two are alike."""
    generator = torch.Generator().manual_seed(5)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in timm.create_model("soft_pico").state_dict().items()
    }


@pytest.fixture
def weights(drawn_weights) -> dict[str, torch.Tensor]:
    """A dictionary of `drawn_weights` for one test to change; the tensors are shared."""
    return dict(drawn_weights)
