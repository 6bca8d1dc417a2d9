"""A trained model in the formats of other programs, each compared with PyTorch before it is kept."""
