"""Small images of log-mels, without axes: PNG with a palette, made in a millisecond.

Shapes: M mel bins, F frames.
"""

import struct
import zlib

import numpy as np
from matplotlib import colormaps

#: Number of colours: few enough for small files, and more than can be told apart by eye.
NUM_COLOURS = 22

# Range of colours: clicks and silent edges must not set it.
_SHOWN_PERCENTILES = (30, 99.9)


def colour_range(mel: np.ndarray) -> tuple[float, float]:
    """Return the values of a log-mel [M, F] that the darkest and the brightest colour show."""
    finite = mel[np.isfinite(mel)]
    quiet, loud = np.percentile(finite, _SHOWN_PERCENTILES) if finite.size else (0.0, 0.0)
    return float(quiet), float(max(loud, quiet + 1e-6))


def log_mel_png(mel: np.ndarray) -> bytes:
    """Return a log-mel as the content of a PNG file, a pixel per cell, low frequencies below.

    Args:
        mel: Log-mel in any normalisation, [M, F]; cells that are not finite are dark.
    """
    quiet, loud = colour_range(mel)
    shown = np.nan_to_num(mel, nan=quiet, posinf=quiet, neginf=quiet)
    level = np.clip((shown - quiet) / (loud - quiet), 0, 1)
    index = np.rint(level[::-1] * (NUM_COLOURS - 1)).astype(np.uint8)
    palette = colormaps["magma"].resampled(NUM_COLOURS)(range(NUM_COLOURS), bytes=True)[:, :3]
    height, width = index.shape
    rows = np.pad(index, ((0, 0), (1, 0)))  # the filter of each row: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = {
        b"IHDR": header,
        b"PLTE": np.ascontiguousarray(palette, np.uint8).tobytes(),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
