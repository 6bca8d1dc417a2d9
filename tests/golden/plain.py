"""The formulas of SPEC written out by themselves, slowly and without the library: a second opinion on whole models."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class AnalyticInverse(torch.autograd.Function):
    """20 Newton steps forwards, the exact inverse's gradient −Yᵀ·G·Yᵀ backwards (SPEC 2)."""

    @staticmethod
    def forward(ctx, a, alpha):
        y = alpha * a
        for _ in range(20):
            y = 2 * y - y @ a @ y
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return -y.mT @ g @ y.mT, None


def inverse(a: Tensor, normalised: bool) -> Tensor:
    """A⁺ of SPEC 1 and 2, with a step size per matrix."""
    row_sums = a.sum(-1)
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    with torch.no_grad():
        largest = row_sums.amax(-1)[..., None, None]
        alpha = (2 if normalised else 0.9 * 2) / largest**2
        for _ in range(10 if normalised else 0):
            too_large = torch.linalg.matrix_norm(eye - alpha * a @ a, ord=1) > 1.01
            alpha = torch.where(too_large[..., None, None], alpha / 2, alpha)
    if not normalised:
        return AnalyticInverse.apply(a + 0.01 * eye, alpha)
    half = torch.diag_embed(row_sums**-0.5)
    return half @ AnalyticInverse.apply(a, alpha) @ half


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """exp(−½‖x_i − y_j‖²) from explicit differences."""
    return torch.exp(-0.5 * (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1))


class PlainSoft:
    """The network as functions of a dictionary of tensors in the authors' names; no dropout.

    Args:
        weights: state dict in the authors' names.
        normalised: the IJCV variant of the inverse.
        num_landmarks: m at the image size that the position embeddings are for.
        stem_strides: of the three stem convolutions.
        train: normalise a batch by its own statistics.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        normalised: bool = False,
        num_landmarks: int = 49,
        stem_strides: tuple[int, int, int] = (2, 1, 2),
        train: bool = False,
    ):
        self.w, self.normalised, self.train = weights, normalised, train
        self.side, self.stem_strides = math.isqrt(num_landmarks), stem_strides

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name, x, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def conv_bn_relu(self, conv, bn, x, stride):
        x = F.conv2d(x, self.w[f"{conv}.weight"], self.w[f"{conv}.bias"], stride, padding=1)
        if self.train:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        else:
            mean, variance = self.w[f"{bn}.running_mean"], self.w[f"{bn}.running_var"]
        scale = self.w[f"{bn}.weight"] / (variance + 1e-5).sqrt()
        return F.relu((x - mean[:, None, None]) * scale[:, None, None] + self.w[f"{bn}.bias"][:, None, None])

    def position(self, stage, height, width):
        """The stage's embedding (1, prefix + H·W, C), and the side of the grid that it is for."""
        embedding = self.w[f"pos_embed{stage}"]
        prefix = 1 if stage == 4 else 0
        side = math.isqrt(embedding.shape[1] - prefix)
        grid = embedding[:, prefix:].mT.reshape(1, -1, side, side)
        grid = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False).flatten(2).mT
        return torch.cat([embedding[:, :prefix], grid], dim=1), side

    def attention(self, name, x, grid, stride):
        b, n, c = x.shape
        heads = c // 32
        q, v = (self.linear(f"{name}.{m}", x).reshape(b, n, heads, 32).transpose(1, 2) for m in ("W_q", "W_v"))
        q = q / 32**0.25
        picture = q.reshape(-1, *grid, 32).permute(0, 3, 1, 2)
        landmarks = F.conv2d(picture, self.w[f"{name}.attn.Qlandmark_op.weight"], stride=stride)
        landmarks = landmarks.flatten(2).mT.reshape(b, heads, -1, 32)
        landmarks = F.gelu(self.norm(f"{name}.attn.Qnorm_act.0", landmarks))
        p = kernel(q, landmarks)
        x = p @ inverse(kernel(landmarks, landmarks), self.normalised) @ (p.mT @ v)
        filters = self.w[f"{name}.attn.conv.weight"]
        for head in range(heads):
            picture = v[:, head].mT.reshape(b * 32, 1, *grid)
            local = F.conv2d(picture, filters[head : head + 1], padding=filters.shape[-1] // 2)
            x = x.index_add(1, torch.tensor([head]), local.reshape(b, 1, 32, n).mT)
        return self.linear(f"{name}.ff", x.transpose(1, 2).reshape(b, n, c))

    def soft_block(self, name, x, grid, stride):
        x = self.norm(f"{name}.norm1", x + self.attention(f"{name}.mha", x, grid, stride))
        hidden = F.gelu(self.linear(f"{name}.ff1", x), approximate="tanh")
        return self.norm(f"{name}.norm2", x + self.linear(f"{name}.ff2", hidden))

    def softmax_block(self, name, x):
        b, n, c = x.shape
        y = self.norm(f"{name}.norm1", x, 1e-6)
        q = self.linear(f"{name}.attn.q", y)
        k, v = self.linear(f"{name}.attn.kv", y).chunk(2, dim=-1)
        q, k, v = (t.reshape(b, n, c // 32, 32).transpose(1, 2) for t in (q, k, v))
        y = torch.softmax(q @ k.mT / 32**0.5, dim=-1) @ v
        x = x + self.linear(f"{name}.attn.proj", y.transpose(1, 2).reshape(b, n, c))
        y = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x, 1e-6)))
        return x + self.linear(f"{name}.mlp.fc2", y)

    def logits(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, classes)."""
        for i, stride in enumerate(self.stem_strides):
            x = self.conv_bn_relu(f"patch_embed1.proj.{3 * i}", f"patch_embed1.proj.{3 * i + 1}", x, stride)
        for stage in (1, 2, 3, 4):
            if stage > 1:
                x = self.conv_bn_relu(f"patch_embed{stage}.proj.0", f"patch_embed{stage}.proj.1", x, 2)
            b, c, *grid = x.shape
            blocks = len({key.split(".")[1] for key in self.w if key.startswith(f"block{stage}.")})
            position, side = self.position(stage, *grid)
            x = x.flatten(2).mT
            if stage == 4:
                x = torch.cat([self.w["cls_token"].expand(b, -1, -1), x], dim=1)
            x = x + position
            for block in range(blocks):
                if stage == 4:
                    x = self.softmax_block(f"block4.{block}", x)
                else:
                    x = self.soft_block(f"block{stage}.{block}.att", x, grid, side // self.side)
            if stage < 4:
                x = x.mT.reshape(b, c, *grid)
        return self.linear("head", self.norm("norm", x, 1e-6)[:, 0])
