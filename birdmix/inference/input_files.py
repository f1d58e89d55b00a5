"""The recordings to predict: folders and files, as paths below one folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.find_recordings import (
    UnsupportedFile,
    list_audio_files,
    unsupported_files_message,
)


class InputFiles(NamedTuple):
    """Recordings to predict.

    Attributes:
        folder: The folder that was given; of several, or of files, the lowest that contains all.
        recordings: Paths relative to it, sorted, each once.
        unsupported: Audio files below the given folders in formats that cannot be read. A file that
            is given itself is a recording, whatever its suffix.
    """

    folder: Path
    recordings: list[str]
    unsupported: list[UnsupportedFile]


def find_input_files(paths: Sequence[Path]) -> InputFiles:
    """Find the recordings of folders and files.

    Args:
        paths: Folders, searched with all folders below, and files.

    Raises:
        ValueError: If one does not exist, or there is no recording among them.
    """
    for given in paths:
        if not given.exists():
            raise ValueError(f"{given}: no such file or folder; name recordings, or their folder")
    folder = _common_folder(paths)
    recordings: set[str] = set()
    unsupported: dict[str, UnsupportedFile] = {}
    for given in paths:
        relative = os.path.relpath(given, folder)
        if given.is_file():
            recordings.add(Path(relative).as_posix())
            continue
        found = list_audio_files(given)
        prefix = "" if relative == "." else f"{Path(relative).as_posix()}/"
        recordings.update(prefix + path for path in found.recordings)
        for path, reason in found.unsupported:
            unsupported[prefix + path] = UnsupportedFile(prefix + path, reason)
    remaining = [unsupported[path] for path in sorted(unsupported.keys() - recordings)]
    if not recordings:
        also = (
            f"; {unsupported_files_message(remaining)}"
            if remaining
            else " (wav, flac, ogg, opus, mp3, aiff, ...)"
        )
        raise ValueError(f"{', '.join(map(str, paths))}: no recordings here{also}")
    return InputFiles(folder, sorted(recordings), remaining)


def _common_folder(paths: Sequence[Path]) -> Path:
    folders = [given if given.is_dir() else given.parent for given in paths]
    if len(set(folders)) == 1:
        return folders[0]
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
