"""Golden windows: pictures, and what torch said of them. What else hears a bundle is held to it.

Pictures are log-mels rounded to 16 bits: small, and nobody can listen to them. The logits are those
of exactly the rounded ones.

Shapes: W windows, M mel bins, F frames, C classes, F' frames of the feature map.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from birdmix.files import atomic_path
from birdmix.suggest import first_line

GOLDEN = "golden.safetensors"

#: Most windows that are kept.
NUM_GOLDEN = 32


class Golden(NamedTuple):
    """Pictures, and the logits that torch gives them in float32 on a CPU.

    Attributes:
        pictures: float16 [W, 1, M, F].
        clip: float32 [W, C].
        frames: float32 [W, C, F']; None if the head hears clips.
    """

    pictures: np.ndarray
    clip: np.ndarray
    frames: np.ndarray | None

    @property
    def is_finite(self) -> bool:
        """Whether all of it is finite; there is nothing to compare with otherwise."""
        return all(bool(np.isfinite(each).all()) for each in self if each is not None)


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden windows into a bundle."""
    given = {name: each for name, each in golden._asdict().items() if each is not None}
    # safetensors writes memory as it lies, and reads rows.
    arrays = {name: np.ascontiguousarray(each) for name, each in given.items()}
    with atomic_path(Path(folder) / GOLDEN) as partial:
        partial.write_bytes(safetensors.numpy.save(arrays))


def read_golden(folder: Path) -> Golden:
    """Read a bundle's golden windows.

    Raises:
        ValueError: If there are none, or they are damaged.
    """
    file = Path(folder) / GOLDEN
    remedy = "make new ones by birdmix export with --windows FOLDER, a folder of recordings"
    if not file.is_file():
        raise ValueError(f"{folder}: no golden windows to check an export by; {remedy}")
    try:
        arrays = safetensors.numpy.load_file(file)
        golden = Golden(arrays["pictures"], arrays["clip"], arrays.get("frames"))
        if not golden.is_finite:
            raise ValueError("its numbers are not all finite")
        return golden
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file}: damaged ({first_line(error)}); {remedy}") from error
