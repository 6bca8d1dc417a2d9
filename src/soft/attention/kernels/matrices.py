"""Triton kernels on the m×m matrices between landmarks: each program takes one matrix.

The iterates stay in the caches of the multiprocessor that runs the program. Matrices are padded with zeros to `block_m`
rows and columns. The products of two such matrices are zero there too, so that padding changes nothing.
`soft.attention.newton` has the definition.
"""

import triton
import triton.language as tl

from soft.attention import newton as definition
from soft.attention.kernels.tokens import load_rows, store_rows

RIDGE = tl.constexpr(definition.RIDGE)
# √eps / 4, as in `soft.attention.fast.early_stop`: a step squares I − A·V, and below this only rounding is left.
NEGLIGIBLE = tl.constexpr(2.0**-11.5 / 4)


@triton.jit
def landmark_kernel(landmarks, m, d, block_m: tl.constexpr):
    """Return A of landmarks (m, d), symmetric to the last bit, with a diagonal of ones.

    The differences are explicit: an exponent that cancels would lose what near-coincident landmarks need.
    """
    marks = tl.arange(0, block_m)
    distances = tl.zeros((block_m, block_m), tl.float32)
    for channel in range(d):
        rows = tl.load(landmarks + marks[:, None] * d + channel, mask=marks[:, None] < m, other=0.0)
        columns = tl.load(landmarks + marks[None, :] * d + channel, mask=marks[None, :] < m, other=0.0)
        distances += (rows - columns) * (rows - columns)
    return tl.where((marks[:, None] < m) & (marks[None, :] < m), tl.exp(-0.5 * distances), 0.0)


@triton.jit
def add_parts(sums, pair, pairs, parts, marks, channels, m, d, block_m: tl.constexpr, block_d: tl.constexpr):
    """Return the sum of `sums` (parts, pairs, m, d) over the parts, in their order."""
    total = tl.zeros((block_m, block_d), tl.float32)
    for part in range(parts):
        total += load_rows(sums + (part * pairs + pair) * m * d, marks, m, d, channels, d)
    return total


@triton.jit
def multiply(x, y, m, few: tl.constexpr, block_m: tl.constexpr):
    """Return X·Y of two m×m matrices in memory, `few` columns of X and rows of Y at a time.

    Split for "tf32x3", whole operands are more than the registers hold. What was read and written so far lies in the
    cache of this program's multiprocessor.
    """
    tl.debug_barrier()
    marks = tl.arange(0, block_m)
    product = tl.zeros((block_m, block_m), tl.float32)
    for first in range(0, m, few):
        some = first + tl.arange(0, few)
        left = load_rows(x, marks, m, m, some, m)
        product = tl.dot(left, load_rows(y, some, m, m, marks, m), product, input_precision="tf32x3")
    tl.debug_barrier()
    return product


@triton.jit
def normalised_alpha(a, m, block_m: tl.constexpr):
    """Return the step size of the normalised variant for A.

    A² has no negative entry, so column j of I − α·A² has the absolute sum |1 − α·d| + α·(s − d), where d is the
    diagonal of A² and s the sum of its column. Both follow without A²: d is the sum of the squares of column j of A,
    and s is A times its row sums.
    """
    row_sums = tl.sum(a, 1)
    largest = tl.max(row_sums, 0)
    on = tl.sum(a * a, 0)
    off = tl.sum(a * row_sums[:, None], 0) - on
    alpha = 2.0 / (largest * largest)
    for _ in range(10):
        norm = tl.max(tl.where(tl.arange(0, block_m) < m, tl.abs(1.0 - alpha * on) + alpha * off, 0.0), 0)
        alpha = tl.where(norm > 1.01, 0.5 * alpha, alpha)
    return alpha


@triton.jit
def newton(a, v, rest, m, iters, limit, normalised: tl.constexpr, few: tl.constexpr, block_m: tl.constexpr):
    """Write A⁺ by `iters` Newton-Raphson steps to `v`, scaled by the row sums where `normalised`.

    Start, ridge and steps are those of `kernel_inverse`. Steps are left out as `stopped_newton_inverse` leaves them
    out, for each matrix by itself. `a`, `v` and `rest` are places of m×m matrices; A gets its ridge there. `limit` is
    NEGLIGIBLE^(2^(1 − iters)): A is certain to be inverted where the eigenvalues of A·V0 are nearer to 1 than this.
    """
    marks = tl.arange(0, block_m)
    diagonal = marks[:, None] == marks[None, :]
    eye = tl.where(diagonal & (marks[:, None] < m), 1.0, 0.0)
    size = m * 1.0
    iterate = load_rows(a, marks, m, m, marks, m)
    if normalised:
        alpha = normalised_alpha(iterate, m, block_m)
    else:
        largest = tl.max(tl.sum(iterate, 1), 0)
        alpha = 1.8 / (largest * largest)
        iterate += RIDGE * eye
        store_rows(a, iterate, marks, m, m, marks, m)
    iterate *= alpha
    store_rows(v, iterate, marks, m, m, marks, m)
    step = 0
    end = iters
    look = 3
    while step < end:
        product = multiply(a, v, m, few, block_m)
        scale = 1.0
        if not normalised:  # noqa: SIM102 - the compiler decides this one, and the program the next
            if step == 0:
                # The best multiple of V0, where the steps are certain to invert A from it.
                trace = tl.sum(tl.sum(product * eye, 1), 0)
                best = trace / tl.sum(tl.sum(product * product, 1), 0)
                distance = tl.sqrt(tl.maximum(size - trace * best, 0.0))
                farthest = tl.maximum(1.0 - (1.0 - distance) / best, 1.8 * (1.0 + RIDGE) * (1.0 + RIDGE) - 1.0)
                scale = tl.where(farthest <= limit, best, 1.0)
                product *= scale
        if step == look:
            residual = eye - product
            norm = tl.sqrt(tl.sum(tl.sum(residual * residual, 1), 0))
            if norm <= NEGLIGIBLE:
                end = step + 1
            look += 1
            norm = norm / tl.sqrt(size)
            while (norm < 1.0) & (norm * norm * tl.sqrt(size) > NEGLIGIBLE):
                norm = norm * norm
                look += 1
        store_rows(rest, 2.0 * eye - product, marks, m, m, marks, m)
        iterate = scale * multiply(v, rest, m, few, block_m)
        store_rows(v, iterate, marks, m, m, marks, m)
        step += 1
    tl.debug_barrier()
    if normalised:
        for first in range(0, m, few):
            some = first + tl.arange(0, few)
            sums = tl.sum(load_rows(a, some, m, m, marks, m), 1)
            tl.store(rest + some, tl.rsqrt(tl.where(some < m, sums, 1.0)), mask=some < m)
        tl.debug_barrier()
        top = tl.load(rest + marks, mask=marks < m, other=0.0)
        for first in range(0, m, few):
            some = first + tl.arange(0, few)
            left = tl.load(rest + some, mask=some < m, other=0.0)
            scaled = left[:, None] * load_rows(v, some, m, m, marks, m) * top[None, :]
            store_rows(v, scaled, some, m, m, marks, m)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["m", "iters"])
def invert(a, inverse, rest, m, iters, limit, normalised: tl.constexpr, few: tl.constexpr, block_m: tl.constexpr):
    """Write A⁺ of matrices (count, m, m), which lose their values; `rest` is memory of the same size to work in."""
    place = tl.program_id(0).to(tl.int64) * m * m
    newton(a + place, inverse + place, rest + place, m, iters, limit, normalised, few, block_m)


@triton.jit(do_not_specialize=["parts", "m", "iters"])
def weigh(
    landmarks,
    sums,
    inverse,
    mixed,
    weighted,
    a,
    rest,
    factor,
    parts,
    m,
    d,
    iters,
    limit,
    normalised: tl.constexpr,
    few: tl.constexpr,
    block_m: tl.constexpr,
    block_d: tl.constexpr,
):
    """Write A⁺, M = Pᵀ·V and W = factor·A⁺·M, from the landmarks and the parts of M (parts, B·h, m, d).

    `a` and `rest` are memory of the size of the inverses to work in.
    """
    pair = tl.program_id(0).to(tl.int64)
    marks, channels = tl.arange(0, block_m), tl.arange(0, block_d)
    a += pair * m * m
    inverse += pair * m * m
    mixed += pair * m * d
    store_rows(a, landmark_kernel(landmarks + pair * m * d, m, d, block_m), marks, m, m, marks, m)
    tl.debug_barrier()
    newton(a, inverse, rest + pair * m * m, m, iters, limit, normalised, few, block_m)
    total = add_parts(sums, pair, tl.num_programs(0), parts, marks, channels, m, d, block_m, block_d)
    store_rows(mixed, total, marks, m, d, channels, d)
    tl.debug_barrier()
    total = tl.zeros((block_m, block_d), tl.float32)
    for first in range(0, m, few):
        some = first + tl.arange(0, few)
        left = load_rows(inverse, marks, m, m, some, m)
        total = tl.dot(left, load_rows(mixed, some, m, d, channels, d), total, input_precision="tf32x3")
    store_rows(weighted + pair * m * d, factor * total, marks, m, d, channels, d)


@triton.jit(do_not_specialize=["parts", "m"])
def differentiate_weights(
    landmarks,
    sums,
    inverse,
    mixed,
    weighted,
    grad_mixed,
    grad_landmarks,
    factor,
    parts,
    m,
    d,
    normalised: tl.constexpr,
    block_m: tl.constexpr,
    block_d: tl.constexpr,
):
    """Write ∂L/∂M and the part of ∂L/∂Q̃ that does not come from the tokens, from the parts of ∂L/∂W = Pᵀ·∂L/∂X."""
    pair = tl.program_id(0).to(tl.int64)
    marks, channels = tl.arange(0, block_m), tl.arange(0, block_d)
    grad_w = add_parts(sums, pair, tl.num_programs(0), parts, marks, channels, m, d, block_m, block_d)
    y = load_rows(inverse + pair * m * m, marks, m, m, marks, m)
    grad_m = factor * tl.dot(tl.trans(y), grad_w, input_precision="tf32x3")
    store_rows(grad_mixed + pair * m * d, grad_m, marks, m, d, channels, d)

    # The gradient of P's exponent, summed over the tokens; `differentiate` has the rest of it.
    w = load_rows(weighted + pair * m * d, marks, m, d, channels, d)
    rows = tl.sum(grad_w * w + grad_m * load_rows(mixed + pair * m * d, marks, m, d, channels, d), 1)
    # ∂L/∂A is −A⁺ᵀ·(∂L/∂A⁺)·A⁺ᵀ, where ∂L/∂A⁺ is factor·∂L/∂W·Mᵀ.
    grad_a = tl.dot(grad_m, tl.trans(w), input_precision="tf32x3") * (-1.0 / factor)
    a = landmark_kernel(landmarks + pair * m * d, m, d, block_m)
    if normalised:
        sums_by_row = tl.where(marks < m, tl.sum(a, 1), 1.0)
        sums_by_column = tl.where(marks < m, tl.sum(a, 0), 1.0)
        grad_a *= tl.sqrt(sums_by_row)[:, None] * tl.sqrt(sums_by_column)[None, :]
        grad_a -= (0.5 * rows / sums_by_row)[:, None]
    # A landmark is both a row and a column of A's exponent.
    exponent = (grad_a + tl.trans(grad_a)) * a
    rows += tl.sum(exponent, 1)
    keys = load_rows(landmarks + pair * m * d, marks, m, d, channels, d)
    grad_l = tl.dot(exponent, keys, input_precision="tf32x3") - rows[:, None] * keys
    store_rows(grad_landmarks + pair * m * d, grad_l, marks, m, d, channels, d)
