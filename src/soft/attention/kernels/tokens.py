"""Triton kernels with a pass over the tokens: each program takes a span of the tokens of one head of one image.

Names: q, v and x are (B, N, h, d), each with three strides. `landmarks` and other (m, d) matrices of a pair of an image
and a head are contiguous float32, (B·h, m, d). Blocks are padded with zeros: `block_m` landmarks, `block_d`
channels. All arithmetic is in float32; "tf32x3" products on tensor cores are as exact as float32 to about two bits.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rows(base, rows, count, stride, columns, width):
    """Return rows of a matrix in float32, zero where `rows` reaches `count` or `columns` reaches `width`."""
    inside = (rows < count)[:, None] & (columns < width)[None, :]
    return tl.load(base + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_rows(base, values, rows, count, stride, columns, width):
    """Write rows of a matrix, without the padding."""
    inside = (rows < count)[:, None] & (columns < width)[None, :]
    tl.store(base + rows[:, None] * stride + columns[None, :], values, mask=inside)


@triton.jit
def gaussian_block(q, landmarks, scale):
    """Return P of a block of tokens: Q before its scaling (block_n, block_d) -> (block_n, block_m)."""
    q = q * scale
    exponent = tl.dot(q, tl.trans(landmarks), input_precision="tf32x3")
    exponent -= 0.5 * tl.sum(q * q, 1)[:, None]
    exponent -= 0.5 * tl.sum(landmarks * landmarks, 1)[None, :]
    return tl.exp2(exponent * LOG2_E)


@triton.jit(do_not_specialize=["heads", "n", "m"])
def project(
    q,
    landmarks,
    x,
    sums,
    scale,
    heads,
    n,
    m,
    d,
    q_image,
    q_token,
    q_head,
    x_image,
    x_token,
    x_head,
    span: tl.constexpr,
    block_n: tl.constexpr,
    block_m: tl.constexpr,
    block_d: tl.constexpr,
):
    """Write the part of Pᵀ·X that comes from a span of tokens: `sums` (parts, B·h, m, d)."""
    pair = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    q += pair // heads * q_image + pair % heads * q_head
    x += pair // heads * x_image + pair % heads * x_head
    marks, channels = tl.arange(0, block_m), tl.arange(0, block_d)
    keys = load_rows(landmarks + pair * m * d, marks, m, d, channels, d)
    total = tl.zeros((block_m, block_d), tl.float32)
    for start in range(part * span, tl.minimum(part * span + span, n), block_n):
        tokens = start + tl.arange(0, block_n)
        p = gaussian_block(load_rows(q, tokens, n, q_token, channels, d), keys, scale)
        block = load_rows(x, tokens, n, x_token, channels, d)
        total += tl.dot(tl.trans(p), block, input_precision="tf32x3")
    sums += (part * tl.num_programs(0) + pair) * m * d
    store_rows(sums, total, marks, m, d, channels, d)


@triton.jit(do_not_specialize=["heads", "n", "m"])
def combine(
    q,
    landmarks,
    weighted,
    out,
    scale,
    heads,
    n,
    m,
    d,
    q_image,
    q_token,
    q_head,
    span: tl.constexpr,
    block_n: tl.constexpr,
    block_m: tl.constexpr,
    block_d: tl.constexpr,
):
    """Add P·W to a span of the tokens of `out`, a contiguous (B, N, h, d); `weighted` is W = A⁺·(Pᵀ·V)."""
    pair = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * span
    q += pair // heads * q_image + pair % heads * q_head
    out += (pair // heads * n * heads + pair % heads) * d
    marks, channels = tl.arange(0, block_m), tl.arange(0, block_d)
    keys = load_rows(landmarks + pair * m * d, marks, m, d, channels, d)
    values = load_rows(weighted + pair * m * d, marks, m, d, channels, d)
    for start in range(first, tl.minimum(first + span, n), block_n):
        tokens = start + tl.arange(0, block_n)
        p = gaussian_block(load_rows(q, tokens, n, q_token, channels, d), keys, scale)
        x = tl.dot(p, values, load_rows(out, tokens, n, heads * d, channels, d), input_precision="tf32x3")
        store_rows(out, x, tokens, n, heads * d, channels, d)


@triton.jit(do_not_specialize=["heads", "n", "m"])
def differentiate(
    q,
    v,
    landmarks,
    weighted,
    grad_mixed,
    grad,
    grad_q,
    grad_v,
    sums,
    scale,
    heads,
    n,
    m,
    d,
    q_image,
    q_token,
    q_head,
    v_image,
    v_token,
    v_head,
    span: tl.constexpr,
    block_n: tl.constexpr,
    few: tl.constexpr,
    block_d: tl.constexpr,
):
    """Write ∂L/∂Q, add to ∂L/∂V, and write the part of ∂L/∂Q̃ that comes from a span of tokens.

    `grad`, `grad_q` and `grad_v` are contiguous (B, N, h, d); `sums` (parts, B·h, m, d) is to be multiplied by `scale`,
    and lacks the terms of ½‖Q̃‖² and of A.
    """
    pair = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    place = (pair // heads * n * heads + pair % heads) * d
    q += pair // heads * q_image + pair % heads * q_head
    v += pair // heads * v_image + pair % heads * v_head
    grad += place
    grad_q += place
    grad_v += place
    landmarks += pair * m * d
    weighted += pair * m * d
    grad_mixed += pair * m * d
    sums += (part * tl.num_programs(0) + pair) * m * d
    channels = tl.arange(0, block_d)
    for start in range(part * span, tl.minimum(part * span + span, n), block_n):
        tokens = start + tl.arange(0, block_n)
        queries = load_rows(q, tokens, n, q_token, channels, d)
        above = load_rows(grad, tokens, n, heads * d, channels, d)
        values = load_rows(v, tokens, n, v_token, channels, d)
        by_value = load_rows(grad_v, tokens, n, heads * d, channels, d)
        by_query = tl.zeros((block_n, block_d), tl.float32)
        columns = tl.zeros((block_n,), tl.float32)
        # A few landmarks at a time: all of them, each split for "tf32x3", are more than the registers hold.
        for first in range(0, m, few):
            marks = first + tl.arange(0, few)
            keys = load_rows(landmarks, marks, m, d, channels, d)
            p = gaussian_block(queries, keys, scale)
            # ∂L/∂P has two terms, one from each P in the product; times P it is the gradient of the exponent.
            matrix = load_rows(weighted, marks, m, d, channels, d)
            exponent = tl.dot(above, tl.trans(matrix), input_precision="tf32x3")
            matrix = load_rows(grad_mixed, marks, m, d, channels, d)
            exponent = tl.dot(values, tl.trans(matrix), exponent, input_precision="tf32x3") * p
            by_value = tl.dot(p, matrix, by_value, input_precision="tf32x3")
            by_query = tl.dot(exponent, keys, by_query, input_precision="tf32x3")
            columns += tl.sum(exponent, 1)
            # The sums over tokens stay in memory, in the cache, where this program alone reads and writes them.
            before = load_rows(sums, marks, tl.where(start == part * span, 0, m), d, channels, d)
            total = tl.dot(tl.trans(exponent), queries, before, input_precision="tf32x3")
            store_rows(sums, total, marks, m, d, channels, d)
        store_rows(grad_v, by_value, tokens, n, heads * d, channels, d)
        by_query = scale * (by_query - scale * columns[:, None] * queries)
        store_rows(grad_q, by_query, tokens, n, heads * d, channels, d)
        tl.debug_barrier()  # before the next tokens' sums are added to these
