"""Measurements of speed and memory: attention, models, the loader, and what the framework costs."""
