"""Small figures of clips: a spectrogram with a mark for the detection.

Shapes: T samples, N frequencies, F frames.
"""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator
from scipy.fft import rfft

from birdmix.report import style

#: Size of the figure in pixels, width and height.
SIZE = (528, 176)

#: Place of the plot in the figure, from its left and top, as shares of width and height.
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 0.085, 0.07, 0.88, 0.76

_MAX_HERTZ = 16_000
_FFT_SECONDS = 0.02  # about the finest detail of a syllable; rounded to a power of two
_MIN_POWER = 1e-12  # power of digital silence
_NUM_COLOURS = 64

# Range of colours. The median of most clips is noise; wind and clicks must not set the range.
_WIND_HERTZ = 300
_SHOWN_PERCENTILES = (40, 99.9)
_MIN_RANGE_DB = 25.0  # less would show plain noise as bright as song


class ClipPlotter:
    """Draws figures of clips one after the other; the canvas is reused, which is much faster."""

    def __init__(self) -> None:
        width, height = (pixels / style.DPI for pixels in SIZE)
        self._figure = style.new_figure(width, height)
        self._figure.set_facecolor(style.DARK_GROUND)
        place = (PLOT_LEFT * width, PLOT_TOP * height, PLOT_WIDTH * width, PLOT_HEIGHT * height)
        self._axes = axes = style.axes_at(self._figure, *place)
        axes.set_facecolor(style.DARK_GROUND)
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=style.DARK_MUTED, labelsize=7, length=2, pad=2)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter("{x:.10g} s")
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 4, 5, 10]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("kHz", size=7, color=style.DARK_MUTED, labelpad=2)
        self._image = axes.imshow(
            np.zeros((1, 1)),
            origin="lower",
            aspect="auto",
            interpolation="antialiased",
            interpolation_stage="data",  # no further colours
            cmap=colormaps["magma"].resampled(_NUM_COLOURS),
        )
        colour = style.DARK_ACCENT
        (self._bar,) = axes.plot([], [], color=colour, linewidth=3, solid_capstyle="butt")
        self._bar.set(transform=axes.get_xaxis_transform(), clip_on=False)  # above the plot
        self._ends = [axes.axvline(0, color=colour, linewidth=0.8, alpha=0.8) for _ in range(2)]

    def draw(
        self,
        path: Path,
        waveform: np.ndarray,
        sample_rate: int,
        begin_seconds: float,
        detection: tuple[float, float],
    ) -> None:
        """Draw the figure of a clip.

        Args:
            path: The PNG file to write.
            waveform: Mono waveform, float32 [T].
            sample_rate: Sample rate in Hz.
            begin_seconds: Start of the clip in the recording.
            detection: Start and end of the detection in the recording, in seconds.
        """
        decibel, highest = spectrogram(waveform, sample_rate)
        end_seconds = begin_seconds + len(waveform) / sample_rate
        above_wind = decibel[int(_WIND_HERTZ / highest * len(decibel)) :]
        quiet, loud = np.percentile(above_wind, _SHOWN_PERCENTILES)
        self._image.set_data(decibel)
        self._image.set_extent((begin_seconds, end_seconds, 0, highest / 1000))
        self._image.set_clim(min(quiet, loud - _MIN_RANGE_DB), loud)
        top = min(sample_rate / 2, _MAX_HERTZ) / 1000
        self._axes.set(xlim=(begin_seconds, end_seconds), ylim=(0, top))
        start, end = np.clip(detection, begin_seconds, end_seconds)
        self._bar.set_data([start, end], [1.03, 1.03])
        for line, seconds in zip(self._ends, (start, end), strict=True):
            line.set_xdata([seconds, seconds])
        style.save_figure(self._figure, path)


def spectrogram(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Return a waveform's spectrogram.

    Frames overlap by half; the first and the last extend beyond the ends.

    Args:
        waveform: Mono waveform, [T].
        sample_rate: Sample rate in Hz.

    Returns:
        Power in dB, [N, F], and the highest of its frequencies in Hz.
    """
    n_fft = 2 ** round(np.log2(max(_FFT_SECONDS * sample_rate, 16)))
    padded = np.pad(waveform, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: n_fft // 2]
    num_kept = min(int(_MAX_HERTZ / sample_rate * n_fft), n_fft // 2) + 1
    magnitude = np.abs(rfft(frames * np.hanning(n_fft).astype(np.float32))[:, :num_kept])
    decibel = 20 * np.log10(np.maximum(magnitude.T, _MIN_POWER**0.5))
    return decibel, (num_kept - 1) / n_fft * sample_rate
