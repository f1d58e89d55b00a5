"""What is said to happen in a recording, and when the recording ends."""

from functools import cache
from pathlib import Path

from birdmix.audio.reader import probe
from birdmix.audio.sound_file import AudioError
from birdmix.recordings.findings import Finding, Findings, tell

#: How far beyond a recording's end something may reach: programs round, and encoders pad.
TOLERANCE_SECONDS = 0.1


class Ends:
    """The lengths of recordings, as their headers tell.

    Args:
        root: Folder of the recordings.
        findings: Takes what lies beyond an end; without it that is an error.

    Attributes:
        seconds: Length of a recording by its path; infinite if nothing tells.
    """

    def __init__(self, root: Path, findings: Findings = None) -> None:
        self.root = root
        self.findings = findings
        self.seconds = cache(self._probed)

    def _probed(self, path: str) -> float:
        try:
            info = probe(self.root / path)
        except AudioError:
            return float("inf")  # told when it is opened
        if info.num_frames is None:
            return float("inf")
        return info.num_frames / info.sample_rate

    def check(self, path: str, start: float, end: float, where: str) -> None:
        """Look whether a stretch lies within its recording.

        Raises:
            ValueError: With file and row, if it does not and nobody collects findings.
        """
        seconds = self.seconds(path)
        if end > seconds + TOLERANCE_SECONDS:
            said = f"{where}: {start:g} to {end:g} s reaches beyond the end, {seconds:.2f} s"
            tell(
                self.findings,
                Finding(path, "annotation", said),
                f"{where}: the part from {start:g} to {end:g} s reaches beyond the end of {path} "
                f"({seconds:.2f} s); correct its times, or look whether the recording is whole",
            )
