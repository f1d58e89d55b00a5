"""Log-mel spectrograms.

Shapes: B batch, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.pcen import Pcen
from birdmix.frontend.settings import EPS, MIN_POWER, LogMelSettings

# Mel filters are narrow; in a few blocks the product skips most of their zeros.
_NUM_BLOCKS = 4


class LogMel(nn.Module):
    """Mel spectrogram in dB, cut off ``top_db`` below each sample's own maximum; or in PCEN.

    Nothing is ever shared by a batch: a loud neighbour must not erase a quiet bird.

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
        self.pcen = None
        if settings.compression == "pcen":
            self.pcen = Pcen(settings.pcen, settings.sample_rate / settings.hop_length)
        self.columns: list[slice] = []
        for number, block in enumerate(filters.tensor_split(_NUM_BLOCKS, dim=1)):
            columns, values = _without_zeros(block, parts=round(settings.power))
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
            mel = waveform.new_empty(len(waveform), num_frames, self.settings.n_mels)
            # On a CPU by twos: the frames of a few clips stay in the processor's cache.
            clips = 2 if waveform.device.type == "cpu" else max(len(waveform), 1)
            for some, out in zip(waveform.split(clips), mel.split(clips), strict=True):
                self._mel(some, out)
            mel = self.pcen(mel) if self.pcen else self._decibel(mel)
            return self._normalised(mel).transpose(1, 2)[:, None]

    def _mel(self, waveform: Tensor, out: Tensor) -> None:
        """Write the power or the magnitude in each mel bin, [B, F, M], into ``out``.

        For power, real and imaginary parts are squared side by side and meet in the product with
        the filters, which reads only what is not 0 in each block of them.
        """
        spectrum = torch.stft(
            waveform,
            n_fft=self.settings.n_fft,
            hop_length=self.settings.hop_length,
            window=self.window,
            pad_mode=self.settings.pad_mode,
            return_complex=True,
        ).mT
        if self.settings.power == 2:
            cells = torch.view_as_real(spectrum).flatten(-2).square_()  # [B, F, 2 N]
        else:
            cells = spectrum.abs()  # [B, F, N]
        first = 0
        for number, columns in enumerate(self.columns):
            filters = getattr(self, f"filters_{number}")
            last = first + filters.shape[1]
            out[:, :, first:last] = cells[:, :, columns] @ filters
            first = last

    def _decibel(self, mel: Tensor) -> Tensor:
        """Turn mels [B, F, M] into decibels, in place."""
        decibels = 20 / self.settings.power
        smallest = MIN_POWER ** (self.settings.power / 2)
        decibel = mel.clamp_(min=smallest).log10_().mul_(decibels)
        floor = decibel.amax(dim=(-2, -1), keepdim=True) - self.settings.top_db
        return torch.maximum(decibel, floor, out=decibel)

    def _normalised(self, mel: Tensor) -> Tensor:
        """Bring mels [B, F, M] to the range that the network is used to, in place."""
        if self.settings.normalise == "fixed":
            return mel.add_(self.settings.offset).div_(self.settings.scale)
        if self.settings.normalise == "minmax":
            low, high = torch.aminmax(mel.flatten(1), dim=1)
            return mel.sub_(low[:, None, None]).div_((high - low)[:, None, None] + EPS)
        deviation, mean = torch.std_mean(mel, dim=(-2, -1), keepdim=True)
        return mel.sub_(mean).div_(deviation + EPS)


def _without_zeros(filters: Tensor, parts: int) -> tuple[slice, Tensor]:
    """Return the rows of filters [N, m] from the first to the last that is not 0, and where.

    Each stands there ``parts`` times: twice for real and imaginary parts that lie side by side.
    """
    rows = filters.any(dim=1).nonzero()
    first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
    values = filters[first:last].repeat_interleave(parts, dim=0).contiguous()
    return slice(parts * first, parts * last), values
