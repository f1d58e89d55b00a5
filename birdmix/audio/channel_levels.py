"""Channel levels: find channels that are silent, or much noisier than the others.

Without ``--channel`` the mean of all channels is predicted, so the hiss of an input without a
microphone is added to everything (birdnet-team/BirdNET-Analyzer#144, tphakala/birdnet-go#1724).

Shapes: T samples, F frames, C channels.
"""

import numpy as np

#: Largest plausible difference in dB between the noise levels of a recorder's channels.
#: Microphones, gains and positions cause smaller differences.
MAX_NOISE_DIFFERENCE_DB = 12.0

#: A channel whose loudest frame is below this level is silent: about the quantisation noise of 16
#: bits, in dB of full scale.
SILENT_DB = -85.0

# Samples per frame, and samples from the start of one frame to the next. A quarter of all samples
# estimates the noise level as well as all of them.
_FRAME, _FRAME_SPACING = 1024, 4096

# The noise level of a channel is this quantile of its frame levels.
_NOISE_SHARE = 0.1

# Histogram of levels: lowest level in dB, and number of bins of 1 dB.
_LOWEST_DB, _NUM_LEVELS = -200, 400


class ChannelLevels:
    """Level histogram of each channel, updated block by block in constant memory.

    Levels are those of the first difference of the samples, which reduces the weight of offsets
    and of wind, which often affects one microphone more than the other.

    Args:
        num_channels: Number of channels C.
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, _NUM_LEVELS), np.int64)
        self._pending = np.zeros((0, num_channels), np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Add a block of samples.

        Args:
            samples: float32 [T, C].
        """
        samples = np.concatenate([self._pending, samples])
        num_frames = len(samples) // _FRAME_SPACING
        end = num_frames * _FRAME_SPACING
        self._pending = samples[end:].copy()
        frames = samples[:end].reshape(num_frames, _FRAME_SPACING, samples.shape[1])
        frames = frames[:, : _FRAME + 1]
        power = np.empty((num_frames, frames.shape[2]))
        with np.errstate(over="ignore", invalid="ignore"):
            for channel in range(frames.shape[2]):  # eight times faster than all channels at once
                waveform = np.ascontiguousarray(frames[:, :, channel])
                change = waveform[:, 1:] - waveform[:, :-1]
                power[:, channel] = np.einsum("ft,ft->f", change, change) / _FRAME
        power = power[np.isfinite(power).all(axis=1)]
        level = 10 * np.log10(np.maximum(power, 1e-20)) - _LOWEST_DB
        for counts, bins in zip(self._counts, level.astype(np.int64).T, strict=True):
            counts += np.bincount(bins.clip(0, _NUM_LEVELS - 1), minlength=_NUM_LEVELS)

    def describe_problem(self) -> str:
        """Return which channels are silent or noisier than the others; empty without a problem."""
        num_frames = int(self._counts[0].sum())
        if not num_frames:
            return ""
        loudest = np.array([np.flatnonzero(counts)[-1] for counts in self._counts]) + _LOWEST_DB
        silent = loudest < SILENT_DB
        if silent.all():
            return ""
        if silent.any():
            chosen = _first_channel(~silent)
            return f"{_channel_names(silent)} silent, others are not; use --channel {chosen}"
        reached = self._counts.cumsum(axis=1) > _NOISE_SHARE * num_frames
        noise = np.maximum(reached.argmax(axis=1) + _LOWEST_DB, SILENT_DB)
        # With two channels it is not known which one is faulty: the noisier one is reported.
        difference_db = np.abs(noise - (noise.min() if len(noise) == 2 else np.median(noise)))
        deviating = difference_db >= MAX_NOISE_DIFFERENCE_DB
        if not deviating.any():
            return ""
        return (
            f"{_channel_names(deviating)} with a noise level {difference_db.max():.0f} dB from "
            "that of the others: hiss, or another gain; check the channels by ear, and try "
            f"--channel {_first_channel(~deviating)}"
        )


def _channel_names(mask: np.ndarray) -> str:
    numbers = [str(number + 1) for number in np.flatnonzero(mask)]
    return f"channel{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _first_channel(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[0]) + 1
