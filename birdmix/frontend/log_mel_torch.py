"""Log-mel spectrograms in torch operations, for GPUs.

Shapes: B batch, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import torch
from torch import Tensor, nn

from birdmix.frontend.pcen import Pcen
from birdmix.frontend.settings import EPS, MIN_POWER, LogMelSettings

# The product with the filters is computed in this many blocks of filters; each block skips the
# frequencies at which all its filters are 0.
_NUM_BLOCKS = 4


class TorchLogMel(nn.Module):
    """The log-mel of ``birdmix.frontend.log_mel.LogMel`` in torch operations.

    It runs on any device. On a CPU it is the slower way: the threads of each operation wait for
    each other, far longer beside other processes.

    Args:
        settings: Parameters of the spectrogram.
        filters: Mel filters, float32 [N, M].
    """

    def __init__(self, settings: LogMelSettings, filters: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("window", torch.hann_window(settings.n_fft), persistent=False)
        self.window: Tensor
        self.pcen = None
        if settings.compression == "pcen":
            self.pcen = Pcen(settings.pcen, settings.sample_rate / settings.hop_length)
        self.columns: list[slice] = []
        for index, block in enumerate(filters.tensor_split(_NUM_BLOCKS, dim=1)):
            columns, values = _trim_zeros(block, repeats=round(settings.power))
            self.columns.append(columns)
            self.register_buffer(f"filters_{index}", values, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute normalised log-mels, [B, 1, M, F], in float32 even under autocast.

        Args:
            waveform: Waveforms in [-1, 1], [B, T].
        """
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self._mel(waveform.float())
            mel = self.pcen(mel) if self.pcen else self._to_decibel(mel)
            return self._normalise(mel).transpose(1, 2)[:, None]

    def _mel(self, waveform: Tensor) -> Tensor:
        """Return the power or the magnitude in each mel bin, [B, F, M].

        For power, real and imaginary parts are squared next to each other and are summed by the
        product with the filters, in which each frequency occurs twice.
        """
        num_frames = self.settings.samples_to_num_frames(waveform.shape[1])
        mel = waveform.new_empty(len(waveform), num_frames, self.settings.n_mels)
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
        for index, columns in enumerate(self.columns):
            filters = getattr(self, f"filters_{index}")
            last = first + filters.shape[1]
            mel[:, :, first:last] = cells[:, :, columns] @ filters
            first = last
        return mel

    def _to_decibel(self, mel: Tensor) -> Tensor:
        """Convert mels [B, F, M] to decibels, in place."""
        factor = 20 / self.settings.power
        min_value = MIN_POWER ** (self.settings.power / 2)
        decibel = mel.clamp_(min=min_value).log10_().mul_(factor)
        floor = decibel.amax(dim=(-2, -1), keepdim=True) - self.settings.top_db
        return torch.maximum(decibel, floor, out=decibel)

    def _normalise(self, mel: Tensor) -> Tensor:
        """Scale mels [B, F, M] to the range of model inputs, in place."""
        if self.settings.normalise == "fixed":
            return mel.add_(self.settings.offset).div_(self.settings.scale)
        if self.settings.normalise == "minmax":
            low, high = torch.aminmax(mel.flatten(1), dim=1)
            return mel.sub_(low[:, None, None]).div_((high - low)[:, None, None] + EPS)
        deviation, mean = torch.std_mean(mel, dim=(-2, -1), keepdim=True)
        return mel.sub_(mean).div_(deviation + EPS)


def _trim_zeros(filters: Tensor, repeats: int) -> tuple[slice, Tensor]:
    """Trim filters [N, m] to the frequencies between the first and the last that is not 0.

    Args:
        filters: Filters of one block.
        repeats: How often each frequency is repeated: 2 for real and imaginary parts next to each
            other.

    Returns:
        The columns of the spectrum that the trimmed filters apply to, and the trimmed filters.
    """
    nonzero = filters.any(dim=1).nonzero()
    first, last = (int(nonzero[0]), int(nonzero[-1]) + 1) if len(nonzero) else (0, 1)
    values = filters[first:last].repeat_interleave(repeats, dim=0).contiguous()
    return slice(repeats * first, repeats * last), values
