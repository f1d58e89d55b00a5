"""Log-mel spectrograms.

Shapes: B batch, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.settings import LogMelSettings

_MIN_POWER = 1e-10  # -100 dB, below 16-bit quantisation noise


class LogMel(nn.Module):
    """Power mel spectrogram in dB, cut off ``top_db`` below each sample's own maximum.

    The cut-off is never shared by a batch: a loud neighbour must not erase a quiet bird.

    Args:
        settings: What to compute.
    """

    def __init__(self, settings: LogMelSettings) -> None:
        super().__init__()
        self.settings = settings
        filters = melscale_fbanks(
            n_freqs=settings.n_fft // 2 + 1,
            f_min=settings.f_min,
            f_max=settings.highest,
            n_mels=settings.n_mels,
            sample_rate=settings.sample_rate,
            norm=settings.mel_norm,
            mel_scale=settings.mel_scale,
        )
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # [M, N]
        self.register_buffer("window", torch.hann_window(settings.n_fft), persistent=False)
        self.filters: Tensor
        self.window: Tensor

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Turn waveforms [B, T] into normalised log-mel spectrograms [B, 1, M, F].

        Runs in float32 whatever the precision of the run: half precision loses quiet birds.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.float()
            if waveform.device.type != "cpu":
                return self._one_pass(waveform)[:, None]
            # On a CPU clip by clip: a clip's frames stay in the processor's cache.
            num_frames = self.settings.num_frames(waveform.shape[1])
            out = waveform.new_empty(len(waveform), 1, self.settings.n_mels, num_frames)
            for clip, mel in zip(waveform, out, strict=True):
                mel.copy_(self._one_pass(clip[None]))
            return out

    def _one_pass(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform,
            n_fft=self.settings.n_fft,
            hop_length=self.settings.hop_length,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square().add_(spectrum.imag.square())  # [B, N, F]
        decibel = torch.matmul(self.filters, power).clamp_(min=_MIN_POWER).log10_().mul_(10)
        floor = decibel.amax(dim=(-2, -1), keepdim=True) - self.settings.top_db
        return self._normalise(torch.maximum(decibel, floor))

    def _normalise(self, decibel: Tensor) -> Tensor:
        if self.settings.normalise == "fixed":
            return (decibel + 80) / 80
        deviation, mean = torch.std_mean(decibel, dim=(-2, -1), keepdim=True)
        return (decibel - mean) / (deviation + 1e-5)
