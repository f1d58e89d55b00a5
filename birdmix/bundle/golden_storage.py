"""The file of golden windows in a bundle: log-mels and torch's logits, written and read.

Exported networks are compared with them.

The log-mels are rounded to 16 bits: they take little space, and cannot be played back. The logits
are those of the rounded log-mels.

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
from birdmix.messages import first_line
from birdmix.safetensors_header import TensorInfo, read_header

GOLDEN_FILE = "golden.safetensors"

#: Most golden windows of a bundle.
NUM_GOLDEN = 32


class GoldenWindows(NamedTuple):
    """Log-mels, and torch's logits for them in float32 on a CPU.

    The fields are the keys of the file.

    Attributes:
        inputs: Log-mels, float16 [W, 1, M, F].
        logits: Logits of the windows, float32 [W, C].
        frame_logits: Logits of their frames, float32 [W, C, F']; None if the head has none.
    """

    inputs: np.ndarray
    logits: np.ndarray
    frame_logits: np.ndarray | None

    @property
    def non_finite_arrays(self) -> list[str]:
        """Names of the arrays with values that are not finite, and so cannot be compared."""
        return [name for name, array in _arrays(self).items() if not np.isfinite(array).all()]


def _arrays(golden: GoldenWindows) -> dict[str, np.ndarray]:
    """Return the arrays by name, without those that are None."""
    return {name: array for name, array in golden._asdict().items() if array is not None}


def write_golden(folder: Path, golden: GoldenWindows) -> None:
    """Write golden windows into a bundle."""
    # safetensors writes the memory of an array in its order, and reads it in C order.
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(golden).items()}
    with atomic_path(Path(folder) / GOLDEN_FILE) as partial:
        partial.write_bytes(safetensors.numpy.save(arrays))


def read_golden(folder: Path) -> GoldenWindows:
    """Read a bundle's golden windows.

    Raises:
        ValueError: If they are missing, damaged or those of another bundle.
    """
    file = Path(folder) / GOLDEN_FILE
    remedy = "make new ones with birdmix export --windows FOLDER, a folder of recordings"
    if not file.is_file():
        raise ValueError(f"{folder}: no golden windows to check an export with; {remedy}")
    manifest = read_manifest(folder)
    try:
        _check_header(read_header(file), manifest)
        arrays = safetensors.numpy.load_file(file)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file}: damaged ({first_line(error)}); {remedy}") from error
    golden = GoldenWindows(arrays["inputs"], arrays["logits"], arrays.get("frame_logits"))
    if golden.non_finite_arrays:
        raise ValueError(f"{file}: damaged ({golden.non_finite_arrays[0]} is not finite); {remedy}")
    return golden


def _check_header(header: dict[str, TensorInfo], manifest: Manifest) -> None:
    """Refuse arrays whose types or shapes do not match the bundle's windows and classes."""
    check_keys(header, GoldenWindows._fields, ("inputs", "logits"), "")
    windows, num_classes = header["inputs"].shape[:1], len(manifest.labels)
    log_mel = manifest.log_mel
    expected = {
        "inputs": (
            "F16",
            (1, log_mel.n_mels, log_mel.samples_to_num_frames(manifest.samples_per_window)),
        ),
        "logits": ("F32", (num_classes,)),
    }
    if "frame_logits" in header:
        expected["frame_logits"] = ("F32", (num_classes, *header["frame_logits"].shape[2:3]))
    for name, (dtype, shape) in expected.items():
        found = header[name]
        if found != (dtype, windows + shape) or not found.num_values:
            raise ValueError(
                f"{name} is {found.dtype} {list(found.shape)[:8]}, not {dtype} "
                f"{list(windows + shape)[:8]}"
            )
