import os

# As src/entrypoint.py does, and before torch is loaded: tests share their cores.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
