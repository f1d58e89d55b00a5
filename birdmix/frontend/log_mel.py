"""Log-mel spectrograms of tensors, for training and for prediction with torch.

Shapes: B batch, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.log_mel_torch import TorchLogMel
from birdmix.frontend.mel_filters import mel_filters
from birdmix.frontend.settings import LogMelSettings
from birdmix.torch_versions import describe_unfit_package


class LogMel(nn.Module):
    """Normalised log-mel spectrogram of a waveform.

    Mel power or magnitude is converted to dB, clamped at ``top_db`` below the example's own
    maximum, or compressed by PCEN.

    All statistics are per example: a loud example must not change a quiet one of its batch.

    On a CPU the implementation of exported networks, ``NumpyLogMel``, computes waveforms side by
    side, one in each of torch's threads: results do not depend on the number of threads. On other
    devices they are computed in torch, the whole batch at a time.

    Args:
        settings: Parameters of the spectrogram.
    """

    def __init__(self, settings: LogMelSettings) -> None:
        super().__init__()
        self.settings = settings
        filters = _mel_filters(settings)
        self.on_cpu = NumpyLogMel(settings, filters.numpy())
        self.on_device = TorchLogMel(settings, filters)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Compute normalised log-mel spectrograms, in float32 even under autocast.

        Half precision would lose quiet birds.

        Args:
            waveform: Waveforms in [-1, 1], [B, T].

        Returns:
            Spectrograms, float32 [B, 1, M, F].
        """
        if waveform.device.type == "cpu":
            waveforms = waveform.float().numpy(force=True)
            return torch.from_numpy(self.on_cpu(waveforms, num_threads=torch.get_num_threads()))
        return self.on_device(waveform)


def _mel_filters(settings: LogMelSettings) -> Tensor:
    """Return mel filters [N, M]: torchaudio's or, where it cannot be imported, our own."""
    melscale_fbanks = _import_melscale_fbanks()
    if melscale_fbanks is None:
        return torch.from_numpy(mel_filters(settings))
    return melscale_fbanks(
        n_freqs=settings.n_fft // 2 + 1,
        f_min=settings.f_min,
        f_max=settings.max_frequency,
        n_mels=settings.n_mels,
        sample_rate=settings.sample_rate,
        norm=settings.mel_norm,
        mel_scale=settings.mel_scale,
    )


@cache  # one attempt and one warning per process
def _import_melscale_fbanks() -> Callable[..., Tensor] | None:
    try:
        from torchaudio.functional import melscale_fbanks
    except Exception as error:  # a torchaudio of another torch raises errors of several classes
        warnings.warn(
            f"{describe_unfit_package('torchaudio', error)}; birdmix computes the mel filters "
            "itself, equal except for rounding",
            stacklevel=2,
        )
        return None
    return melscale_fbanks
