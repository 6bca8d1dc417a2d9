"""The attention core in Triton, for NVIDIA GPUs from compute capability 8.0.

It computes what `soft.attention.fast.fused` computes. The N×m kernel P never reaches memory: each pass over the tokens
computes it again, and the m×m matrices are inverted in one launch. All sums are in float32 and in a fixed order, so
that results do not change from run to run.

Triton exists for Linux alone and is imported only by `tokens` and `matrices`, which nothing imports before a kernel is
wanted. Without a GPU the kernels run in Triton's interpreter, for tests: TRITON_INTERPRET=1 before Triton is imported.
"""
