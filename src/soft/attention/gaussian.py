"""The Gaussian kernel that replaces the softmax (paper, section 3.1)."""

from torch import Tensor


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return exp(−½‖x_i − y_j‖²), from 0 to 1 up to a rounding of ‖x‖²·eps.

    x (..., n, d), y (..., m, d) -> (..., n, m).

    The exponent is x·y − ½‖x‖² − ½‖y‖², one matrix product without an (n, m, d) difference. It cancels, so the inputs
    have to be float32 or better.
    """
    x_half = 0.5 * x.square().sum(-1, keepdim=True)
    y_half = 0.5 * y.square().sum(-1).unsqueeze(-2)
    # The n×m matrix is the largest of the attention, and only its last state is needed, so it is changed in place.
    return (x @ y.transpose(-2, -1)).sub_(x_half).sub_(y_half).exp_()
