"""What is to be predicted: folders and files, as paths below one folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.listing import UnreadFile, list_sound, unread_line


class Targets(NamedTuple):
    """What is to be predicted.

    Attributes:
        folder: The folder that was given; of several, or of files, the lowest that holds them all.
        recordings: Paths relative to it, sorted, each once.
        unread: Sound below folders that cannot be read. A file that is named itself is a recording,
            whatever its suffix.
    """

    folder: Path
    recordings: list[str]
    unread: list[UnreadFile]


def find_targets(given: Sequence[Path]) -> Targets:
    """Find the recordings of folders and files.

    Raises:
        ValueError: If one is missing, or there is no recording among them.
    """
    for each in given:
        if not each.exists():
            raise ValueError(f"{each}: no such file or folder; name recordings, or their folder")
    folder = _folder_of(given)
    recordings: set[str] = set()
    unread: dict[str, UnreadFile] = {}
    for each in given:
        place = os.path.relpath(each, folder)
        if each.is_file():
            recordings.add(Path(place).as_posix())
            continue
        found = list_sound(each)
        recordings.update(Path(place, path).as_posix() for path in found.recordings)
        for path, reason in found.unread:
            path = Path(place, path).as_posix()
            unread[path] = UnreadFile(path, reason)
    left = [unread[path] for path in sorted(unread.keys() - recordings)]
    if not recordings:
        also = f"; {unread_line(left)}" if left else " (wav, flac, ogg, opus, mp3, aiff, ...)"
        raise ValueError(f"{', '.join(map(str, given))}: no recordings here{also}")
    return Targets(folder, sorted(recordings), left)


def _folder_of(given: Sequence[Path]) -> Path:
    folders = [each if each.is_dir() else each.parent for each in given]
    if len(set(folders)) == 1:
        return folders[0]
    return Path(os.path.commonpath([os.path.abspath(each) for each in folders]))
