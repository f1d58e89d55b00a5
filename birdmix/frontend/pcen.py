"""Per-channel energy normalisation (PCEN) of mel spectrograms, with fixed parameters.

Shapes: B batch, M mel bins, F frames, L frames of a block.
"""

import torch
from torch import Tensor, nn

from birdmix.frontend.settings import PcenSettings

# Frames L that are smoothed by one matrix product; the last smoothed frame starts the next block.
_BLOCK = 64


class Pcen(nn.Module):
    """Divide each mel bin by its own smoothed past, then compress it by a root.

    Source: Wang et al. 2017, arXiv:1607.05666, with the parameters of ``librosa.pcen``. Departures:
    the parameters are not learned; smoothing starts with the first frame by default.

    Args:
        settings: Parameters of PCEN.
        frames_per_second: Frame rate of the mels, in Hz.
    """

    def __init__(self, settings: PcenSettings, frames_per_second: float) -> None:
        super().__init__()
        self.settings = settings
        weights, decay = _smoothing_matrix(settings.smoothing_coefficient(frames_per_second))
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("decay", decay, persistent=False)
        self.weights: Tensor
        self.decay: Tensor

    def forward(self, mel: Tensor) -> Tensor:
        """Normalise mels of power or magnitude, [B, F, M]; the result is shaped alike."""
        settings = self.settings
        mel = mel * settings.scale
        # In place, and by exp and log: a power of tensors takes several times as long.
        level = self._smooth(mel).add_(settings.eps).log_().mul_(-settings.gain).exp_()
        root = level.mul_(mel).div_(settings.bias).log1p_().mul_(settings.power).expm1_()
        return root.mul_(settings.bias**settings.power)

    def _smooth(self, mel: Tensor) -> Tensor:
        """Return the smoothed past of each frame, [B, F, M], block by block along time."""
        past = mel[:, :1] if self.settings.start == "first" else torch.ones_like(mel[:, :1])
        smoothed = []
        for block in mel.split(_BLOCK, dim=1):
            num_frames = block.shape[1]
            product = self.weights[:num_frames, :num_frames] @ block
            smoothed.append(product.addcmul_(self.decay[:num_frames], past))
            past = smoothed[-1][:, -1:]
        return torch.cat(smoothed, dim=1)


def _smoothing_matrix(b: float) -> tuple[Tensor, Tensor]:
    """Return exponential smoothing of a block as a matrix, so that all frames run in parallel.

    y[t] = (1 - b) y[t-1] + b x[t], written out: y = weights @ x + decay * y[-1]. Every term is
    positive and none grows, so that float32 is precise enough.

    Args:
        b: Weight of the newest frame, in (0, 1].

    Returns:
        Weights [L, L] and decay [L, 1], float32.
    """
    index = torch.arange(_BLOCK, dtype=torch.float64)
    age = index[:, None] - index
    weights = (b * (1 - b) ** age.clamp(min=0)).tril()
    return weights.float(), (1 - b) ** (index[:, None] + 1).float()
