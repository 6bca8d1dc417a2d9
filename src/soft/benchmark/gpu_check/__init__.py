"""A check of the GPU path in minutes: what it computes, what it waits for, and how fast it is."""
