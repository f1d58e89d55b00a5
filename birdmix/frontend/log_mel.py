"""Log-mel spectrograms.

Shapes: B batch, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.settings import LogMelSettings

_MIN_POWER = 1e-10  # -100 dB, below 16-bit quantisation noise

# Mel filters are narrow; in a few blocks the product skips most of their zeros.
_NUM_BLOCKS = 4


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
        self.register_buffer("window", torch.hann_window(settings.n_fft), persistent=False)
        self.window: Tensor
        self.columns: list[slice] = []
        for number, block in enumerate(filters.tensor_split(_NUM_BLOCKS, dim=1)):
            columns, values = _without_zeros(block)
            self.columns.append(columns)
            self.register_buffer(f"filters_{number}", values, persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Turn waveforms [B, T] into normalised log-mel spectrograms [B, 1, M, F].

        Runs in float32 whatever the precision of the run: half precision loses quiet birds.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.float()
            num_frames = self.settings.num_frames(waveform.shape[1])
            power = waveform.new_empty(len(waveform), num_frames, self.settings.n_mels)
            # On a CPU by twos: the frames of a few clips stay in the processor's cache.
            clips = 2 if waveform.device.type == "cpu" else max(len(waveform), 1)
            for some, out in zip(waveform.split(clips), power.split(clips), strict=True):
                self._mel_power(some, out)
            return self._log(power).transpose(1, 2)[:, None]

    def _mel_power(self, waveform: Tensor, out: Tensor) -> None:
        """Write the power in each mel bin, [B, F, M], into ``out``.

        Real and imaginary parts are squared side by side and meet in the product with the filters,
        which reads only what is not 0 in each block of them.
        """
        spectrum = torch.stft(
            waveform,
            n_fft=self.settings.n_fft,
            hop_length=self.settings.hop_length,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        squares = torch.view_as_real(spectrum.mT).flatten(-2).square_()  # [B, F, 2 N]
        first = 0
        for number, columns in enumerate(self.columns):
            filters = getattr(self, f"filters_{number}")
            last = first + filters.shape[1]
            out[:, :, first:last] = squares[:, :, columns] @ filters
            first = last

    def _log(self, power: Tensor) -> Tensor:
        """Turn power [B, F, M] into normalised decibels, in place."""
        decibel = power.clamp_(min=_MIN_POWER).log10_().mul_(10)
        floor = decibel.amax(dim=(-2, -1), keepdim=True) - self.settings.top_db
        torch.maximum(decibel, floor, out=decibel)
        if self.settings.normalise == "fixed":
            return decibel.add_(80).div_(80)
        deviation, mean = torch.std_mean(decibel, dim=(-2, -1), keepdim=True)
        return decibel.sub_(mean).div_(deviation + 1e-5)


def _without_zeros(filters: Tensor) -> tuple[slice, Tensor]:
    """Return the rows of filters [N, m] from the first to the last that is not 0, each twice.

    Twice for the real and the imaginary part, which lie side by side; and where they stand then.
    """
    rows = filters.any(dim=1).nonzero()
    first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
    return slice(2 * first, 2 * last), filters[first:last].repeat_interleave(2, dim=0).contiguous()
