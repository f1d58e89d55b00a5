"""Laws of mixing, tried on random cases: fewer of them in Triton's interpreter, which is slow."""

import os

from hypothesis import settings

#: Whether mixing on the CPU uses the kernels of GPUs, in Triton's interpreter.
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"


def law(num_cases: int) -> settings:
    """Return the settings of a law that is tried on a number of cases, always the same ones."""
    return settings(derandomize=True, deadline=None, max_examples=3 if INTERPRETS else num_cases)
