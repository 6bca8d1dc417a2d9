import os

# As src/entrypoint.py does, and before torch is loaded: tests share their cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
