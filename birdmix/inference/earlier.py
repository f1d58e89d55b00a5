"""What ``birdmix predict`` wrote before it kept lists of its files: told by its own form.

Such a file has the very header that birdmix wrote, and is not newer than ``run.json``, which was
written last: what was changed since is taken for its user's.
"""

import json
import os
import re
from pathlib import Path

from birdmix.ownership import files_below, read_list

_PLACE = "path,datetime,deployment"

#: How the files of --out begin; more columns may follow.
_HEADERS = {
    "detections.csv": f"{_PLACE},start_seconds,end_seconds,species,common_name,confidence",
    "activity.csv": "species,common_name,date,hour,detections,seconds,recorded_seconds",
    "effort.csv": "date,hour,deployment,recorded_seconds",
    "recordings.csv": f"{_PLACE},seconds,windows,detections,warning",
    "failed.csv": "path,error",
    "scores.csv": f"{_PLACE},start_seconds,end_seconds",
}

#: Files in the folders of other programs' formats: how their names end, and how all lines or the
#: first one look.
_FORMATS = {
    "raven": (
        ".selections.txt",
        re.compile(
            r"Selection\tView\tChannel\tBegin Time \(s\)\tEnd Time \(s\)\tLow Freq \(Hz\)\t"
            r"High Freq \(Hz\)\tBegin File\tSpecies\tCommon Name\tConfidence"
        ),
    ),
    "audacity": (".txt", re.compile(r"[\d.]+\t[\d.]+\t.* [01]\.\d\d")),
    "birdnet": (
        "birdnet.csv",
        re.compile(r"Start \(s\),End \(s\),Scientific name,Common name,Confidence,File"),
    ),
    "kaleidoscope": (
        "kaleidoscope.csv",
        re.compile(
            "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,"
            "confidence,lat,lon,week,overlap,sensitivity"
        ),
    ),
}


class EarlierOutput:
    """A folder that a birdmix without lists predicted into; else nothing in it is told.

    Args:
        out: The folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = Path(out)
        self._ended = self._run_ended()

    def wrote(self, path: Path) -> bool:
        """Return whether birdmix wrote a file of the folder, or a folder of another format."""
        if self._ended is None or path.is_symlink():
            return False
        if path.is_dir():
            return path.name in _FORMATS and all(
                self._is_of_format(path / name, *_FORMATS[path.name]) for name in files_below(path)
            )
        if not self._is_old(path):
            return False
        if path.name == "scores.parquet":
            with path.open("rb") as stream:
                return stream.read(4) == b"PAR1"
        return path.name == "run.json" or _first_line(path).startswith(
            _HEADERS.get(path.name, "\n")
        )

    def _run_ended(self) -> int | None:
        """Return when ``run.json`` was written, in nanoseconds; None if it is none of birdmix."""
        if read_list(self.out) is not None:
            return None
        file = self.out / "run.json"
        try:
            run = json.loads(file.read_text(encoding="utf-8"))
            told = {*run["heard_with"], *run["counts"]}
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_birdmix = {"birdmix", "decoder", "recordings", "detections"} <= told
        return os.stat(file).st_mtime_ns if is_birdmix else None

    def _is_old(self, file: Path) -> bool:
        assert self._ended is not None
        return file.is_file() and os.stat(file).st_mtime_ns <= self._ended

    def _is_of_format(self, file: Path, ending: str, form: re.Pattern[str]) -> bool:
        if file.is_symlink() or not self._is_old(file) or not file.name.endswith(ending):
            return False
        return form.fullmatch(_first_line(file)) is not None


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace", newline="") as stream:
        return stream.readline(1 << 16).rstrip("\r\n")
