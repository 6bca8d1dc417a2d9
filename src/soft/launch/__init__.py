"""The launch of a run: its plan, its trainer and its processes."""
