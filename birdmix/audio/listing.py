"""List the recordings below a folder, and the sound there that cannot be read.

A file is a recording if its suffix is one of ``SUFFIXES``, or if its suffix says nothing and its
first bytes are those of a sound file: libsndfile opens it by them, whatever its name. What is known
to hold sound that libsndfile does not decode is listed beside the recordings with what to do about
it, so that no sound is missed without a word. MP3 without an ID3 tag has no first bytes of its own:
it is known by its suffix only.
"""

import os
import shlex
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from birdmix.files import walk

#: Suffixes of sound that libsndfile decodes.
SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus"}
    | {".mp3", ".mp2", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd", ".voc", ".sph"}
)

_CONVERT = "convert it to FLAC or WAV, as with: ffmpeg -i {old} {new}"
_VIDEO = "take its sound out, as with: ffmpeg -i {old} -vn {new}"
_RECORDER = "convert it to WAV with the software of the recorder's maker"

#: Suffixes of sound that is not decoded here, and what to do about it.
UNREAD_SUFFIXES = {
    **dict.fromkeys((".m4a", ".m4b", ".aac", ".wma", ".wv", ".ape", ".tta", ".alac"), _CONVERT),
    **dict.fromkeys((".mka", ".weba", ".amr", ".3ga", ".ac3", ".dts", ".ra", ".mpc"), _CONVERT),
    **dict.fromkeys((".spx", ".dsf", ".dff", ".shn", ".tak"), _CONVERT),
    # Wildlife Acoustics' compressed WAV, of Song Meter 2 and of Song Meter 4 and Mini.
    **dict.fromkeys((".wac", ".w4v"), _RECORDER),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".3gp", ".mts"), _VIDEO),
    **dict.fromkeys((".m2ts", ".wmv", ".mpg", ".mpeg", ".flv", ".ogv", ".asf"), _VIDEO),
}

#: Archives that can be looked into, ...
_ZIPS, _TARS = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: ... those that cannot, ...
_CLOSED = (".7z", ".rar", ".tar.zst")
#: ... and suffixes of one compressed file, behind its own.
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")

#: Names of files that are not whole yet, or are kept as they once were.
_LEFTOVERS = (
    *(".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart"),
    *(".bak", ".old", ".orig", "~"),
)

#: What lies beside recordings and is no sound. To open each such file takes long on network disks.
_NO_SOUND = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".ini", ".md", ".html"}
    | {".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".png", ".jpg", ".jpeg", ".gif"}
    | {".svg", ".tif", ".tiff", ".npy", ".npz", ".pcm", ".parquet", ".sqlite", ".py", ".r", ".rds"}
    | {".gpx", ".kml", ".db", ".aup3", ".pt", ".ckpt", ".onnx", ".safetensors"}
)

# The first bytes of sound files, and what stands from the ninth on where a container has many uses.
_FIRST_BYTES = (
    *((kind, form) for kind in (b"RIFF", b"RIFX", b"RF64") for form in (b"WAVE",)),
    *((b"FORM", form) for form in (b"AIFF", b"AIFC")),
    *((first, b"") for first in (b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"NIST_1A")),
    *((first, b"") for first in (b"riff\x2e\x91\xcf\x11", b"Creative Voice File")),
)

# Members of an archive that are looked at, and bytes: to skip a member may be to decompress it.
_MOST_MEMBERS, _MOST_BYTES = 16, 64 << 20


class UnreadFile(NamedTuple):
    """A file of sound that cannot be read.

    Attributes:
        path: Relative to the folder that was listed.
        reason: Why, and what to do.
    """

    path: str
    reason: str


class SoundFiles(NamedTuple):
    """The sound below a folder, sorted by path.

    Attributes:
        recordings: What can be read, unless it is damaged; paths relative to the folder.
        unread: What cannot.
    """

    recordings: list[str]
    unread: list[UnreadFile]


def list_sound(folder: Path) -> SoundFiles:
    """List the sound below a folder; ``birdmix.files.walk`` says which folders are entered."""
    recordings, unread = [], []
    for path in sorted(walk(folder)):
        if _suffix(path) in SUFFIXES:
            recordings.append(path)
        elif _suffix(path) not in _NO_SOUND:
            file = os.path.join(folder, path)
            sounds = _begins_as_sound(file)
            leftover = path.lower().endswith(_LEFTOVERS)
            if sounds and not leftover:
                recordings.append(path)
            elif reason := _unread(file, sounds and leftover):
                unread.append(UnreadFile(path, reason))
    return SoundFiles(recordings, unread)


def find_recordings(folder: Path) -> list[str]:
    """List the recordings below a folder, sorted, as paths relative to it; see ``list_sound``."""
    return list_sound(folder).recordings


def unread_line(unread: Sequence[UnreadFile]) -> str:
    """Return one line about files that cannot be read: how many, of which kinds, the first."""
    kinds = Counter(_suffix(path).lstrip(".") or "without a suffix" for path, _ in unread)
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    files = "file of sound is" if len(unread) == 1 else "files of sound are"
    path, reason = unread[0]
    return f"{len(unread)} {files} not read ({counted}), first {path}: {reason}"


def not_decoded(path: str | os.PathLike[str]) -> str:
    """Say that a kind of file is not decoded here, and what to do; empty for other files."""
    name = os.path.basename(path)
    remedy = UNREAD_SUFFIXES.get(_suffix(name))
    if remedy is None:
        return ""
    new = shlex.quote(os.path.splitext(name)[0] + ".flac")
    return (
        f"{_suffix(name)[1:]} is not decoded here; {remedy.format(old=shlex.quote(name), new=new)}"
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _begins_as_sound(file: str) -> bool:
    """Tell whether a file's first bytes are those of a container that libsndfile opens."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(32)
    except OSError:
        return False
    return any(head.startswith(first) and head[8:].startswith(form) for first, form in _FIRST_BYTES)


def _unread(file: str, leftover: bool) -> str:
    """Say why a file of sound is not read; empty for what holds no sound."""
    if leftover:
        return "it is named like an unfinished or an old file; rename it if it is a recording"
    if _suffix(file) in UNREAD_SUFFIXES:
        return not_decoded(file)
    if _is_archive_of_sound(file):
        return "it is an archive with recordings, or may be; unpack it"
    return ""


def _is_archive_of_sound(file: str) -> bool:
    """Tell whether an archive holds sound; also of one that does not open, and may."""
    name = file.lower()
    if name.endswith(_CLOSED):
        return True
    try:
        if name.endswith(_ZIPS):
            with zipfile.ZipFile(file) as archive:
                return _any_sound(archive.namelist())
        if name.endswith(_TARS):
            with tarfile.open(file) as archive:
                return _may_hold_sound(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError):
        return True
    return name.endswith(_COMPRESSED) and _any_sound([os.path.splitext(name)[0]])


def _may_hold_sound(archive: tarfile.TarFile) -> bool:
    for _, member in zip(range(_MOST_MEMBERS), archive, strict=False):
        if _any_sound([member.name]) or member.offset_data + member.size > _MOST_BYTES:
            return True
    return False


def _any_sound(names: Iterable[str]) -> bool:
    return any(_suffix(name) in SUFFIXES or _suffix(name) in UNREAD_SUFFIXES for name in names)
