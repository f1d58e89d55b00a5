"""Windows of a recording: positions and excerpts; logits to probabilities and back.

Shapes: T samples, W windows.
"""

import math

import numpy as np

#: Probabilities are limited to this value and 1 minus it: a 1 would tie with the rows of ones that
#: the padded average precision of BirdCLEF 2023 appends.
MIN_PROBABILITY = 1e-6

#: A tail of a recording shorter than this, in seconds, gets no window: audio encoders add padding.
MIN_TAIL_SECONDS = 0.1


#: What becomes of a last window that would end behind the recording: it is moved back, so that it
#: ends with the recording (full); it is padded with silence (pad); or there is none (drop).
LAST_WINDOWS = ("full", "pad", "drop")


def num_windows(
    num_samples: int, window: int, hop: float, min_tail: int = 0, last_window: str = "full"
) -> int:
    """Return the number of windows that cover a recording, except for a short tail.

    Args:
        num_samples: Length of the recording in samples, at least 1.
        window: Window length in samples.
        hop: Distance between starts in samples; below ``window`` windows overlap, above it
            they leave gaps.
        min_tail: Most samples at the end for which no further window is added.
        last_window: A value of ``LAST_WINDOWS``.

    Returns:
        Number of windows W, at least 1: a recording shorter than a window has one, which is padded.
    """
    if last_window == "drop":
        return 1 + max(math.floor((num_samples - window) / hop), 0)
    return 1 + max(math.ceil((num_samples - max(window, hop) - min_tail) / hop), 0)


def window_starts(
    num_samples: int, window: int, hop: int, min_tail: int = 0, last_window: str = "full"
) -> np.ndarray:
    """Return the starts of windows in samples, int64 [W]; for the arguments see ``num_windows``."""
    count = num_windows(num_samples, window, hop, min_tail, last_window)
    starts = np.arange(count, dtype=np.int64) * hop
    if last_window == "full":
        starts[-1] = min(starts[-1], max(num_samples - window, 0))
    return starts


def extract_padded(waveform: np.ndarray, start: int, num_samples: int) -> np.ndarray:
    """Return [start, start + num_samples) of a waveform, padded with zeros outside of it.

    Args:
        waveform: Samples [T].
        start: First sample, which may be negative.
        num_samples: Samples to return.
    """
    excerpt = waveform[max(start, 0) : max(start + num_samples, 0)]
    before = min(max(-start, 0), num_samples)
    if len(excerpt) == num_samples:
        return excerpt
    return np.pad(excerpt, (before, num_samples - before - len(excerpt)))


def repeat_to_length(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Repeat a waveform until it has ``num_samples``; a longer one is truncated."""
    if len(waveform) >= num_samples:
        return waveform[:num_samples]
    return np.resize(waveform, num_samples)


def probability(logits: np.ndarray) -> np.ndarray:
    """Return the sigmoid of logits, float64 in [MIN_PROBABILITY, 1 - MIN_PROBABILITY]."""
    clipped = np.clip(np.asarray(logits, np.float64), -700, 700)
    return np.clip(1 / (1 + np.exp(-clipped)), MIN_PROBABILITY, 1 - MIN_PROBABILITY)


def logit(probability: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities; finite for 0 and 1 too, which are clipped first."""
    clipped = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(clipped / (1 - clipped))
