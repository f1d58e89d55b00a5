"""Per-channel energy normalisation.

Shapes: B batch, M mel bins, F frames, L frames of a block.
"""

import torch
from torch import Tensor, nn

from birdmix.frontend.settings import PcenSettings

# Frames that are smoothed in one product; what came before them enters at their start.
_BLOCK = 64


class Pcen(nn.Module):
    """Divide each mel bin by its own smoothed past, then take a root.

    Source: Wang et al. 2017, arXiv:1607.05666, with the parameters of ``librosa.pcen``. Departures:
    the parameters are not learned; the past begins with the first frame unless told otherwise.

    Args:
        settings: Its parameters.
        frames_per_second: How fast frames follow each other.
    """

    def __init__(self, settings: PcenSettings, frames_per_second: float) -> None:
        super().__init__()
        self.settings = settings
        weights, fading = _smoothing(settings.newest(frames_per_second))
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("fading", fading, persistent=False)
        self.weights: Tensor
        self.fading: Tensor

    def forward(self, mel: Tensor) -> Tensor:
        """Normalise mels [B, F, M] of power or magnitude."""
        its = self.settings
        mel = mel * its.scale
        # In place, and by exp and log: a power of tensors takes several times as long.
        level = self._past(mel).add_(its.eps).log_().mul_(-its.gain).exp_()
        root = level.mul_(mel).div_(its.bias).log1p_().mul_(its.power).expm1_()
        return root.mul_(its.bias**its.power)

    def _past(self, mel: Tensor) -> Tensor:
        """Smooth along time, block by block."""
        past = mel[:, :1] if self.settings.start == "first" else torch.ones_like(mel[:, :1])
        smoothed = []
        for block in mel.split(_BLOCK, dim=1):
            frames = block.shape[1]
            own = self.weights[:frames, :frames] @ block
            smoothed.append(own.addcmul_(self.fading[:frames], past))
            past = smoothed[-1][:, -1:]
        return torch.cat(smoothed, dim=1)


def _smoothing(newest: float) -> tuple[Tensor, Tensor]:
    """Return exponential smoothing as a product, so that no frame waits for the one before it.

    y[t] = (1 - b) y[t-1] + b x[t], written out: y = weights @ x + fading * y[-1]. Every term is
    positive and none grows, so that float32 is enough.

    Args:
        newest: b, the share of the newest frame, in (0, 1].

    Returns:
        Weights [L, L] and fading [L, 1].
    """
    at = torch.arange(_BLOCK, dtype=torch.float64)
    age = at[:, None] - at
    weights = (newest * (1 - newest) ** age.clamp(min=0)).tril()
    return weights.float(), (1 - newest) ** (at[:, None] + 1).float()
