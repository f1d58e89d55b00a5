"""What the writers of output formats get: a recording's result, and what all recordings share."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from birdmix.inference.detections import Detection
from birdmix.inference.overlaps import OverlapGroup
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.labels import Labels


@dataclass(frozen=True)
class RecordingResult:
    """Predictions of a recording, and what the tables add to them.

    Attributes:
        predictions: Of the species reported, smoothed and ranked; with all warnings.
        deployment: The folder of the recording, relative to the folder predicted; at the top that
            folder's name.
        recorded_at: When it began, in the time zone of the tables, with an offset from UTC if that
            is known; None if unknown.
        detections: Of all species, by their start, then column.
        copy_of: The recording with the same bytes, if this one is a copy; else empty.
        overlap: The recordings of its deployment that overlap in time, if it is one of them.
    """

    predictions: RecordingPredictions
    deployment: str
    recorded_at: datetime | None
    detections: tuple[Detection, ...]
    copy_of: str = ""
    overlap: OverlapGroup | None = None

    @property
    def path(self) -> str:
        """The recording, relative to the folder predicted."""
        return self.predictions.path


@dataclass(frozen=True)
class SharedMetadata:
    """What all recordings of a prediction have in common.

    Attributes:
        labels: The species of the detections' columns.
        folder: The folder predicted.
        band: Lowest and highest frequency of the models' inputs, in Hz.
        channel: The channel decoded, counted from 1; 1 where all are mixed.
    """

    labels: Labels
    folder: Path
    band: tuple[float, float]
    channel: int
