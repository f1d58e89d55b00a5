"""Where a training segment is cut out of a recording, and what fills up one that is too short.

Shapes: T samples.
"""

from collections.abc import Callable

import numpy as np

from birdmix.windows import loop

#: Places that are listened to when the louder ones are wanted.
_NUM_CANDIDATES = 4

#: Longest silence between repetitions, as a part of the recording's length.
_LONGEST_GAP = 0.5

#: Reads samples: first sample, number.
Read = Callable[[int, int], np.ndarray]


def random_start(first: int, last: int, num_samples: int, rng: np.random.Generator) -> int:
    """Draw where a segment starts that lies between two samples; at the first if none fits."""
    return first + int(rng.integers(max(last - first - num_samples, 0) + 1))


def loud_start(
    read: Read, first: int, last: int, num_samples: int, rng: np.random.Generator
) -> int:
    """Draw a few places, and one of them in proportion to its energy.

    The energy is that of the waveform's differences: what rumbles below the birds counts little.
    """
    starts = [random_start(first, last, num_samples, rng) for _ in range(_NUM_CANDIDATES)]
    energy = np.array([np.square(np.diff(read(s, num_samples))).sum(dtype=float) for s in starts])
    share = energy / energy.sum() if energy.sum() > 0 else None
    return starts[int(rng.choice(len(starts), p=share))]


def event_start(
    event: tuple[int, int], first: int, last: int, num_samples: int, rng: np.random.Generator
) -> int:
    """Draw where a segment starts that holds an event; of one that is too long, a part.

    Args:
        event: Its first and last sample.
        first: First sample there is.
        last: Last sample there is.
        num_samples: Length of the segment T.
        rng: Source of randomness.
    """
    begin, end = event
    low, high = sorted((end - num_samples, begin))
    start = int(rng.integers(low, high + 1))
    return min(max(start, first), max(last - num_samples, first))


def filled(
    waveform: np.ndarray, num_samples: int, how: str, rng: np.random.Generator
) -> np.ndarray:
    """Make a waveform as long as asked.

    Args:
        waveform: float32 [T'], at least one sample.
        num_samples: Length wanted, T.
        how: ``loop`` repeats it end to end; ``pad`` puts it anywhere in exact silence; ``gaps``
            repeats it with exact silence of different lengths between.
        rng: Source of randomness.
    """
    missing = num_samples - len(waveform)
    if how == "loop" or missing <= 0:
        return loop(waveform, num_samples)
    out = np.zeros(num_samples, np.float32)
    at = int(rng.integers(missing + 1)) if how == "pad" else 0
    while at < num_samples:
        piece = waveform[: num_samples - at]
        out[at : at + len(piece)] = piece
        if how == "pad":
            break
        at += len(waveform) + int(rng.integers(int(_LONGEST_GAP * len(waveform)) + 1))
    return out


def summed(read: Read, start: int, last: int, num_samples: int) -> np.ndarray:
    """Add up the segments that follow each other from a sample on, float32 [T].

    What is labelled somewhere in a recording is more likely to be in their sum than in one of them.
    Source: the 2nd place of BirdCLEF 2023. The last one may be short: silence follows it.
    """
    waveform = read(start, last - start)
    whole = -(-len(waveform) // num_samples) * num_samples
    return np.pad(waveform, (0, whole - len(waveform))).reshape(-1, num_samples).sum(axis=0)
