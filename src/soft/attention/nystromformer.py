"""Nyströmformer attention: the softmax matrix from the rows and columns of a few landmarks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention.local import leave_out
from soft.attention.multihead import MultiHeadAttention
from soft.attention.precision import parameter_type, without_autocast
from soft.attention.softmax import softmax_rows
from soft.errors import SettingError
from soft.settings import check_choice, check_whole

STARTS = ("matrix", "batch")


class NystromAttention(MultiHeadAttention):
    """S(Q, K̃)·S(Q̃, K̃)⁺·S(Q̃, K)·V + DWConv(V) with S(X, Y) = softmax(X·Yᵀ/√d).

    Source: Xiong et al., "Nyströmformer: A Nyström-based Algorithm for Approximating Self-Attention", AAAI 2021,
    equations 13 and 14. Landmarks Q̃ and K̃ are the means of m segments of consecutive tokens, row after row of the grid.
    Where m does not divide N, zeros in front of Q, K and V fill the first segment; they take part in the softmax, as in
    the package nystrom-attention.

    Args:
        dim, num_heads, grid, conv_size: see `MultiHeadAttention`.
        num_landmarks: m; more than N are of no use.
        pinv_iters: steps of the iterative pseudo-inverse, see `iterative_pinv`.
        conv_kernel: odd width of the depthwise convolution of V along the sequence, one filter per head. With a
            `conv_size` of 0 there is none.
        pinv_start: `matrix` or `batch`, see `iterative_pinv`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        conv_size: int,
        num_landmarks: int = 49,
        pinv_iters: int = 6,
        conv_kernel: int = 33,
        pinv_start: str = "matrix",
    ):
        super().__init__(dim, num_heads, grid, conv_size)
        check_whole("num_landmarks", num_landmarks, 1)
        check_whole("pinv_iters", pinv_iters, 1)
        check_whole("conv_kernel", conv_kernel, 1)
        if conv_kernel % 2 == 0:
            raise SettingError(f"conv_kernel={conv_kernel} has to be odd, such as {conv_kernel + 1}.")
        check_choice("pinv_start", pinv_start, STARTS)
        self.num_landmarks = num_landmarks
        self.pinv_iters = pinv_iters
        self.pinv_start = pinv_start
        conv_kernel = conv_kernel if conv_size else 1
        self.conv = nn.Conv2d(
            num_heads, num_heads, (conv_kernel, 1), padding=(conv_kernel // 2, 0), groups=num_heads, bias=False
        )
        if not conv_size:
            leave_out(self.conv)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.mix(q, k, v) + self.convolve(v)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the global term, S(Q, K̃)·S(Q̃, K̃)⁺·S(Q̃, K)·V: (B, h, N, d) -> (B, h, N, d)."""
        q_means, k, k_means = self.segment_means(q), self.pad(k), self.segment_means(k)
        inverse = iterative_pinv(softmax_rows(q_means, k_means), self.pinv_iters, self.pinv_start)
        # The products with K and with Q are softmax attentions by themselves, so that no N×m matrix is kept.
        context = inverse @ F.scaled_dot_product_attention(q_means, k, self.pad(v))
        return F.scaled_dot_product_attention(q, k_means, context)

    @torch.no_grad()
    def branches(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the global and the local term for the input of `forward`, (B, h, N, d) each.

        Their sum is what the output map gets.
        """
        with without_autocast(x.device.type):
            q, k, v = self._split(x.to(parameter_type(self.qkv, x.dtype)))
            return self.mix(q, k, v), self.convolve(v)

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        q_means, k_means = self.segment_means(q), self.segment_means(k)
        inverse = iterative_pinv(softmax_rows(q_means, k_means), self.pinv_iters, self.pinv_start)
        rows = softmax_rows(q[:, :, queries], k_means) @ inverse @ softmax_rows(q_means, self.pad(k))
        return rows[..., -k.shape[-2] :]  # the weights of the padding meet values of zero

    def convolve(self, v: Tensor) -> Tensor:
        """Return the local term, each head's filter along the sequence: (B, h, N, d) -> (B, h, N, d)."""
        b, h, n, d = v.shape
        # Tokens are a channels-last image one pixel wide. With an image for each head, as in the package, oneDNN
        # (torch 2.15, CPU, float32) is ten times slower, gives filter gradients that are 5 % off, and writes out of
        # bounds where the filter is wider than the sequence.
        image = v.transpose(1, 2).reshape(b, n, 1, h * d).permute(0, 3, 1, 2)
        filters = self.conv.weight.to(v.dtype).repeat_interleave(d, dim=0)
        local = F.conv2d(image, filters, None, 1, self.conv.padding, 1, h * d)
        return local.permute(0, 2, 3, 1).reshape(b, n, h, d).transpose(1, 2)

    def pad(self, x: Tensor) -> Tensor:
        """Return tokens (B, h, N, d) with zeros in front, up to the next multiple of m."""
        return F.pad(x, (0, 0, -x.shape[-2] % self.num_landmarks, 0))

    def segment_means(self, x: Tensor) -> Tensor:
        """Return the means of m segments of tokens, (B, h, N, d) -> (B, h, m, d)."""
        return self.pad(x).unflatten(-2, (self.num_landmarks, -1)).mean(-2)


def iterative_pinv(a: Tensor, iters: int, start: str = "matrix") -> Tensor:
    """Return the pseudo-inverse of softmax matrices by `iters` steps Z ← ¼·Z·(13 − AZ·(15 − AZ·(7 − AZ))), (..., m, m).

    This is Nyströmformer's equation 11, from Z = Aᵀ / (largest column sum); the rows of A sum to one. A small error
    I − A·Z is cubed at every step, but the small eigenvalues of nearly uniform matrices need more than six steps: the
    truncated iterate is then what the model computes, and it depends on the start.

    Args:
        a: (..., m, m), each row a softmax.
        iters: number of steps.
        start: `matrix` takes the largest column sum of each matrix. `batch` takes the largest of all heads and images,
            as the package nystrom-attention does; an image's result then depends on its neighbours in the batch.
    """
    sums = a.sum(-2)
    largest = sums.amax(-1)[..., None, None] if start == "matrix" else sums.amax()
    z = a.transpose(-2, -1) / largest
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(iters):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z
