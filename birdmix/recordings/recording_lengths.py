"""Lengths of recordings, read from their headers, and checks of time spans against them."""

from functools import cache
from pathlib import Path

from birdmix.audio.audio_file import AudioError
from birdmix.audio.stream_reader import read_audio_info
from birdmix.recordings.data_findings import Finding, Findings, add_finding_or_raise

#: How far a span may exceed the end of its recording: programs round times, and encoders pad.
TOLERANCE_SECONDS = 0.1


class RecordingLengths:
    """Lengths of recordings according to their headers; each header is read once.

    Args:
        root: Folder of the recordings.
        findings: List for spans that exceed a recording; with None they are errors.

    Attributes:
        seconds: Function from a recording's path to its length in seconds; infinity if the header
            does not state it.
    """

    def __init__(self, root: Path, findings: Findings = None) -> None:
        self.root = root
        self.findings = findings
        self.seconds = cache(self._probe_seconds)

    def _probe_seconds(self, path: str) -> float:
        try:
            info = read_audio_info(self.root / path)
        except AudioError:
            return float("inf")  # reported when the recording is opened
        if info.num_frames is None:
            return float("inf")
        return info.num_frames / info.sample_rate

    def check_span(self, path: str, start: float, end: float, location: str) -> None:
        """Check that a span lies within its recording.

        Args:
            path: The recording.
            start: Start of the span in seconds.
            end: End of the span in seconds.
            location: File and row that state the span, for the error.

        Raises:
            ValueError: With file and row, if it does not and findings are not collected.
        """
        seconds = self.seconds(path)
        if end > seconds + TOLERANCE_SECONDS:
            detail = f"{location}: {start:g} to {end:g} s exceeds the recording's {seconds:.2f} s"
            add_finding_or_raise(
                self.findings,
                Finding(path, "annotation", detail),
                f"{location}: the span from {start:g} to {end:g} s exceeds the end of {path} "
                f"({seconds:.2f} s); correct the times, or check that the recording is complete",
            )
