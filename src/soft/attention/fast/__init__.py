"""Faster ways to compute the attentions of `soft.attention`, for eager PyTorch.

They compute what the modules beside this folder compute in PyTorch's own operations, with gradients of their own.
"""
