"""How a mel changes in time, as two more channels.

Shapes: B batch, M mel bins, F frames.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def deltas(mel: Tensor) -> Tensor:
    """Return a mel, its slope along **time**, and the slope of the slope.

    The slope of the straight line nearest to five frames; the first and the last frame go on
    beyond the ends. Written as sums of shifted frames: an exported network holds nothing else, and
    autocast, which would round a convolution to half precision, leaves it alone.

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
    ends = F.pad(x, (2, 2, 0, 0), mode="replicate")
    near = ends[..., 3:-1] - ends[..., 1:-3]
    far = ends[..., 4:] - ends[..., :-4]
    return (near + 2 * far) / 10
