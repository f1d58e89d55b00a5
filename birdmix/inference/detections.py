"""Detections: where a species is called, of one recording at a time.

Shapes: W windows, C classes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from birdmix.windows import WindowPredictions


class Detection(NamedTuple):
    """A stretch of a recording in which a species is called.

    Attributes:
        start_seconds: Where the first of its windows starts.
        end_seconds: Where the last of them ends.
        column: Column of the species in the label set.
        confidence: Its highest probability.
    """

    start_seconds: float
    end_seconds: float
    column: int
    confidence: float


@dataclass(frozen=True)
class HeardRecording:
    """What came of a recording.

    Attributes:
        predictions: Of its windows.
        seconds: How long it is.
        deployment: The folder that it lies in, below the one listened to; its name at the top.
        began: When it began, with an offset from UTC if that is known; None if nothing tells.
        detections: Of all species, by their start, then column.
    """

    predictions: WindowPredictions
    seconds: float
    deployment: str
    began: datetime | None
    detections: tuple[Detection, ...]

    @property
    def path(self) -> str:
        """The recording, relative to the folder listened to."""
        return self.predictions.path
