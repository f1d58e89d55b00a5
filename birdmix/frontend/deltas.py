"""Delta features: slopes of a mel spectrogram along time, as two more channels.

Shapes: B batch, M mel bins, F frames.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def append_deltas(mel: Tensor) -> Tensor:
    """Stack a mel spectrogram, its slope along **time**, and the slope of that slope.

    A slope is that of the least-squares line through five frames; the first and the last frame are
    repeated beyond the ends. It is computed by sums of shifted frames, which export as they are and
    stay in float32 under autocast; a convolution would be rounded to half precision.

    Source: the regression of Furui 1986, doi:10.1109/TASSP.1986.1164788, over five frames as in
    ``torchaudio.functional.compute_deltas``.

    Args:
        mel: Spectrograms [B, 1, M, F].

    Returns:
        Spectrograms [B, 3, M, F].
    """
    slope = _slope(mel)
    return torch.cat([mel, slope, _slope(slope)], dim=1)


def _slope(x: Tensor) -> Tensor:
    """Return the slope along the last axis, per frame, shaped as x."""
    padded = F.pad(x, (2, 2, 0, 0), mode="replicate")
    near = padded[..., 3:-1] - padded[..., 1:-3]
    far = padded[..., 4:] - padded[..., :-4]
    return (near + 2 * far) / 10
