"""Extraction of training segments: start positions, filling up short ones, sums of segments.

Shapes: T samples.
"""

from collections.abc import Callable

import numpy as np

from birdmix.windows import repeat_to_length

#: Number of random positions among which louder ones are preferred.
_NUM_CANDIDATES = 4

#: Longest silence between repetitions, as a fraction of the recording's length.
_MAX_GAP = 0.5

#: Function that reads audio samples: from first sample and number of samples to float32 [T].
ReadSamples = Callable[[int, int], np.ndarray]


def draw_random_start(first: int, last: int, num_samples: int, rng: np.random.Generator) -> int:
    """Draw the start of a segment between two samples; ``first`` if the segment does not fit.

    Args:
        first: First sample of the range.
        last: End of the range, exclusive.
        num_samples: Length of the segment T.
        rng: Source of randomness.
    """
    return first + int(rng.integers(max(last - first - num_samples, 0) + 1))


def draw_loud_start(
    read: ReadSamples, first: int, last: int, num_samples: int, rng: np.random.Generator
) -> int:
    """Draw a few random starts, and one of them with probability proportional to its energy.

    The energy is that of differences between samples, which suppresses rumble below bird songs.

    Args:
        read: Reads samples of the recording.
        first: First sample of the range.
        last: End of the range, exclusive.
        num_samples: Length of the segment T.
        rng: Source of randomness.
    """
    starts = [draw_random_start(first, last, num_samples, rng) for _ in range(_NUM_CANDIDATES)]
    energy = np.array([np.square(np.diff(read(s, num_samples))).sum(dtype=float) for s in starts])
    probability = energy / energy.sum() if energy.sum() > 0 else None
    return starts[int(rng.choice(len(starts), p=probability))]


def draw_event_start(
    event: tuple[int, int], first: int, last: int, num_samples: int, rng: np.random.Generator
) -> int:
    """Draw the start of a segment that contains an event, or lies within a longer event.

    Args:
        event: Start and end (exclusive) of the event, in samples.
        first: First sample of the range.
        last: End of the range, exclusive.
        num_samples: Length of the segment T.
        rng: Source of randomness.
    """
    begin, end = event
    low, high = sorted((end - num_samples, begin))
    start = int(rng.integers(low, high + 1))
    return min(max(start, first), max(last - num_samples, first))


def fill_up(
    waveform: np.ndarray, num_samples: int, method: str, rng: np.random.Generator
) -> np.ndarray:
    """Extend a waveform to a length; a longer one is truncated.

    Args:
        waveform: float32 [T'], at least one sample.
        num_samples: Length of the result T.
        method: ``loop`` repeats it; ``pad`` puts it at a random position in exact silence; ``gaps``
            repeats it with exact silence of random lengths between.
        rng: Source of randomness.

    Returns:
        float32 [T].
    """
    num_missing = num_samples - len(waveform)
    if method == "loop" or num_missing <= 0:
        return repeat_to_length(waveform, num_samples)
    out = np.zeros(num_samples, np.float32)
    at = int(rng.integers(num_missing + 1)) if method == "pad" else 0
    while at < num_samples:
        piece = waveform[: num_samples - at]
        out[at : at + len(piece)] = piece
        if method == "pad":
            break
        at += len(waveform) + int(rng.integers(int(_MAX_GAP * len(waveform)) + 1))
    return out


def sum_consecutive_segments(
    read: ReadSamples, start: int, last: int, num_samples: int
) -> np.ndarray:
    """Sum the consecutive segments of a range; the last one is padded with silence.

    A labelled sound of unknown time is more likely to be in the sum than in one segment. Source:
    the 2nd place of BirdCLEF 2023.

    Args:
        read: Reads samples of the recording.
        start: First sample of the range.
        last: End of the range, exclusive.
        num_samples: Length of a segment T.

    Returns:
        float32 [T].
    """
    waveform = read(start, last - start)
    padded_length = -(-len(waveform) // num_samples) * num_samples
    padded = np.pad(waveform, (0, padded_length - len(waveform)))
    return padded.reshape(-1, num_samples).sum(axis=0)
