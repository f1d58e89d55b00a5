"""Windows on a recording: grids, cuts, and the predictions made for them.

Shapes: T samples, W windows, C classes.
"""

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np

#: Probabilities are written within [FLOOR, 1 - FLOOR]: a 1 would tie with the rows of ones that the
#: padded average precision of BirdCLEF 2023 appends.
FLOOR = 1e-6

#: A recording's tail shorter than this, in seconds, gets no window of its own: encoders pad.
MIN_TAIL_SECONDS = 0.1


def num_windows(num_samples: int, window: int, step: float, min_tail: int = 0) -> int:
    """Return how many windows together cover all but a tail of a recording.

    Args:
        num_samples: Length of the recording in samples, at least 1.
        window: Window length in samples.
        step: Distance between starts in samples; below ``window`` windows overlap, above it they
            leave gaps.
        min_tail: Samples not yet covered that are too few for one more window.

    Returns:
        Windows W, at least one; the last may reach beyond the end.
    """
    return 1 + max(math.ceil((num_samples - max(window, step) - min_tail) / step), 0)


def window_starts(num_samples: int, window: int, step: int, min_tail: int = 0) -> np.ndarray:
    """Return where the windows of ``num_windows`` start, in samples, int64 [W]."""
    count = num_windows(num_samples, window, step, min_tail)
    return np.arange(count, dtype=np.int64) * step


def cut(waveform: np.ndarray, start: int, num_samples: int) -> np.ndarray:
    """Cut [start, start + num_samples) out of a waveform; what lies outside it is exact silence."""
    piece = waveform[max(start, 0) : max(start + num_samples, 0)]
    before = min(max(-start, 0), num_samples)
    if len(piece) == num_samples:
        return piece
    return np.pad(piece, (before, num_samples - before - len(piece)))


def loop(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Repeat a waveform end to end until it is ``num_samples`` long; longer ones are cut."""
    if len(waveform) >= num_samples:
        return waveform[:num_samples]
    return np.resize(waveform, num_samples)


def probability(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities in double precision, within [FLOOR, 1 - FLOOR]."""
    clipped = np.clip(np.asarray(logits, np.float64), -700, 700)
    return np.clip(1 / (1 + np.exp(-clipped)), FLOOR, 1 - FLOOR)


def logit(share: np.ndarray) -> np.ndarray:
    """Turn probabilities into logits, drawn in from 0 and 1 by ``FLOOR``."""
    share = np.clip(share, FLOOR, 1 - FLOOR)
    return np.log(share / (1 - share))


@dataclass(frozen=True)
class WindowPredictions:
    """What a model says about the windows of one recording.

    Attributes:
        path: Recording, relative to the folder listened to.
        start_seconds: Start of each window, float64 [W].
        end_seconds: End of each window, float64 [W].
        score: Logits, float32 [W, C]: they ensemble, smooth and take priors, and do not saturate.
        warning: What was odd about the recording; empty if nothing.
        seconds: Length of the recording; NaN if nobody said.
        recorded_at: What its clock said when it began; None if nothing tells.
    """

    path: str
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    score: np.ndarray
    warning: str = ""
    seconds: float = float("nan")
    recorded_at: datetime | None = None

    @property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [W, C], within [FLOOR, 1 - FLOOR]."""
        return probability(self.score)
