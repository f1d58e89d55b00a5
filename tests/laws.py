"""Laws of mixing, tried on random cases: fewer of them in Triton's interpreter, which is slow."""

import os

import torch
from hypothesis import settings

#: Whether mixing on the CPU uses the kernels of GPUs, in Triton's interpreter.
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"

#: Types of inputs; the interpreter cuts bfloat16 off instead of rounding it.
DTYPES = [torch.float32] if INTERPRETS else [torch.float32, torch.bfloat16]


def law(num_cases: int) -> settings:
    """Return the settings of a law that is tried on a number of cases, always the same ones."""
    return settings(derandomize=True, deadline=None, max_examples=3 if INTERPRETS else num_cases)
