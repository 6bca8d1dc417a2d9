"""A trained model's answers for images that nobody has labelled."""
