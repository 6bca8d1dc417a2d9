"""The mark of values of a parameter that a test takes in the slow set alone."""

import pytest


def slow(*values: object):
    """Return a parameter's values, marked slow.

    It is for values that would find little that the unmarked ones do not.
    """
    return pytest.param(*values, marks=pytest.mark.slow)
