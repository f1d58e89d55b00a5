"""Channels that hold no sound, or whose noise is unlike that of the others.

The mean of all channels is predicted unless one is chosen, so the hiss of an input without a
microphone is heard in everything (birdnet-team/BirdNET-Analyzer#144, tphakala/birdnet-go#1724).

Shapes: T samples, F frames, C channels.
"""

import numpy as np

#: Noise of channels of one recorder differs less, in dB: microphones, gains and places differ some.
UNLIKE_DB = 12.0

#: A channel that is never louder holds no sound: about the steps of 16 bits, in dB of full scale.
SILENT_DB = -85.0

# Samples of a frame, and from one to the next: a quarter tells the noise as well as all of them.
_FRAME, _PERIOD = 1024, 4096

# The noise of a channel is the level that so many of its frames do not reach.
_NOISE_SHARE = 0.1

# Levels are counted in steps of 1 dB, from here on.
_LOWEST_DB, _NUM_STEPS = -200, 400


class ChannelLevels:
    """Counts how loud each channel is, frame by frame, in memory that does not grow.

    Levels are those of the difference from sample to sample: wind, which takes one microphone more
    than the other, and offsets count for little.

    Args:
        num_channels: Number of channels C.
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, _NUM_STEPS), np.int64)
        self._rest = np.zeros((0, num_channels), np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Count a block, float32 [T, C]."""
        samples = np.concatenate([self._rest, samples])
        num_frames = len(samples) // _PERIOD
        end = num_frames * _PERIOD
        self._rest = samples[end:].copy()
        frames = samples[:end].reshape(num_frames, _PERIOD, samples.shape[1])[:, : _FRAME + 1]
        power = np.empty((num_frames, frames.shape[2]))
        with np.errstate(over="ignore", invalid="ignore"):
            for channel in range(frames.shape[2]):  # one by one it takes an eighth of the time
                one = np.ascontiguousarray(frames[:, :, channel])
                change = one[:, 1:] - one[:, :-1]
                power[:, channel] = np.einsum("ft,ft->f", change, change) / _FRAME
        power = power[np.isfinite(power).all(axis=1)]
        level = 10 * np.log10(np.maximum(power, 1e-20)) - _LOWEST_DB
        for counts, steps in zip(self._counts, level.astype(np.int64).T, strict=True):
            counts += np.bincount(steps.clip(0, _NUM_STEPS - 1), minlength=_NUM_STEPS)

    def problem(self) -> str:
        """Say which channels hold no sound or are unlike the others; empty if none is."""
        num_frames = int(self._counts[0].sum())
        if not num_frames:
            return ""
        loudest = np.array([np.flatnonzero(each)[-1] for each in self._counts]) + _LOWEST_DB
        silent = loudest < SILENT_DB
        if silent.all():
            return ""
        if silent.any():
            chosen = _first(~silent)
            return f"{_named(silent)} without sound, others have some; try --channel {chosen}"
        reached = self._counts.cumsum(axis=1) > _NOISE_SHARE * num_frames
        noise = np.maximum(reached.argmax(axis=1) + _LOWEST_DB, SILENT_DB)
        # Of two channels nobody knows which one is right: the noisier one is named.
        apart = np.abs(noise - (noise.min() if len(noise) == 2 else np.median(noise)))
        unlike = apart >= UNLIKE_DB
        if not unlike.any():
            return ""
        return (
            f"{_named(unlike)} with a noise {apart.max():.0f} dB apart from the others': hiss, or "
            f"another gain; listen to them, and try --channel {_first(~unlike)}"
        )


def _named(which: np.ndarray) -> str:
    numbers = [str(number + 1) for number in np.flatnonzero(which)]
    return f"channel{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _first(which: np.ndarray) -> int:
    return int(np.flatnonzero(which)[0]) + 1
