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

from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.files import atomic_path
from birdmix.json_data import check_keys
from birdmix.suggest import first_line
from birdmix.tensor_headers import TensorInfo, read_header

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
    def not_finite(self) -> list[str]:
        """Names of the arrays that are not all finite: there is nothing to compare with."""
        given = {name: each for name, each in self._asdict().items() if each is not None}
        return [name for name, each in given.items() if not np.isfinite(each).all()]


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
        ValueError: If there are none, or they are damaged or those of another bundle.
    """
    file = Path(folder) / GOLDEN
    remedy = "make new ones by birdmix export with --windows FOLDER, a folder of recordings"
    if not file.is_file():
        raise ValueError(f"{folder}: no golden windows to check an export by; {remedy}")
    manifest = read_manifest(folder)
    try:
        _check(read_header(file), manifest)
        arrays = safetensors.numpy.load_file(file)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file}: damaged ({first_line(error)}); {remedy}") from error
    golden = Golden(arrays["pictures"], arrays["clip"], arrays.get("frames"))
    if golden.not_finite:
        raise ValueError(f"{file}: damaged ({golden.not_finite[0]} is not finite); {remedy}")
    return golden


def _check(header: dict[str, TensorInfo], manifest: Manifest) -> None:
    """Refuse arrays that are not of a bundle's windows and classes."""
    check_keys(header, Golden._fields, ("pictures", "clip"), "")
    windows, num_classes = header["pictures"].shape[:1], len(manifest.labels)
    log_mel = manifest.log_mel
    expected = {
        "pictures": ("F16", (1, log_mel.n_mels, log_mel.num_frames(manifest.num_samples))),
        "clip": ("F32", (num_classes,)),
    }
    if "frames" in header:
        expected["frames"] = ("F32", (num_classes, *header["frames"].shape[2:3]))
    for name, (dtype, shape) in expected.items():
        found = header[name]
        if found != (dtype, windows + shape) or not found.num_values:
            raise ValueError(
                f"{name} is {found.dtype} {list(found.shape)[:8]}, not {dtype} "
                f"{list(windows + shape)[:8]}"
            )
