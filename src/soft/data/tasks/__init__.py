"""Tasks that code generates: each asks for attention between distant tokens, and none needs a file.

Every example is a function of (seed, split, index) alone. Inputs are integers: token ids, or grey values from 0 to 255.
"""
