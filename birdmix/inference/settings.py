"""Settings of prediction."""

import math
from dataclasses import dataclass

from birdmix.frontend.settings import MIN_INPUT_SECONDS
from birdmix.messages import check_choice
from birdmix.windows import LAST_WINDOWS

# Seconds. Shorter windows would be more than the frames of a network, longer ones would not fit
# into memory.
_SHORTEST, _LONGEST = MIN_INPUT_SECONDS, 86_400


@dataclass(frozen=True)
class PredictSettings:
    """How the logits of a recording's windows are computed.

    Attributes:
        window: Length of a window in seconds; None is that of the segments trained on.
        hop: Seconds from the start of a window to that of the next; None is ``window``: no overlap.
        context: Seconds that the network gets for a window, with the window in the middle, and
            silence beyond the ends of the recording; None is the length of the segments that each
            model was trained on.
        frame_pooling: The logits of a window: clip (the head's logits of the whole context), mean
            or max (over the frames within the window, of a head with frame logits).
        shift: The network also gets each window this many seconds earlier and later, and the logits
            are averaged; 0 is off.
        combine: Mean over several models: logit (of their logits), power (of probabilities to a
            power), or rank (of each species' ranks over all windows).
        power: The exponent of --combine power.
        channel: The channel to decode, counted from 1; None is the mean of all.
        last_window: A last window that would end behind the recording is moved back, so that it
            ends with it (full), padded with silence (pad) or left out (drop). A recording shorter
            than a window has one, which is padded.
    """

    window: float | None = None
    hop: float | None = None
    context: float | None = None
    frame_pooling: str = "clip"
    shift: float = 0.0
    combine: str = "logit"
    power: float = 2.0
    channel: int | None = None
    last_window: str = "full"

    def __post_init__(self) -> None:
        check_choice("--frame-pooling", self.frame_pooling, ("clip", "mean", "max"))
        check_choice("--combine", self.combine, ("logit", "power", "rank"))
        check_choice("--last-window", self.last_window, LAST_WINDOWS)
        for name in ("window", "hop", "context"):
            value = getattr(self, name)
            if value is not None and not _SHORTEST <= value <= _LONGEST:
                raise ValueError(
                    f"--{name} {value:g}: it must be from {_SHORTEST:g} to {_LONGEST} s"
                )
        for name in ("power", "channel"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"--{name} {value:g}: it must be above 0, and finite")
        if not 0 <= self.shift <= _LONGEST:
            raise ValueError(f"--shift {self.shift:g}: it must be from 0 (off) to {_LONGEST} s")


def check_smoothing_and_threshold(smoothing: float, threshold: float | None) -> None:
    """Check the settings that turn logits into detections.

    Args:
        smoothing: Weight of the two neighbours in a window's logits, in [0, 1).
        threshold: Probability from which a species is detected, in (0, 1); None is the bundles'.

    Raises:
        ValueError: If one is out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"--smoothing {smoothing:g}: it must lie in [0, 1)")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"--threshold {threshold:g}: it must lie between 0 and 1")
