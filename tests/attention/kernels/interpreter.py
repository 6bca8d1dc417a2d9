"""Marks for tests that run the kernels on a CPU, in Triton's interpreter."""

import importlib.util
import os

import pytest

if importlib.util.find_spec("triton") is None:
    _REASON = "Triton, which exists for Linux alone, is not installed"
elif os.environ.get("TRITON_INTERPRET") != "1":
    _REASON = "TRITON_INTERPRET is not 1"
else:
    _REASON = ""

interpreted = pytest.mark.skipif(bool(_REASON), reason=_REASON)
