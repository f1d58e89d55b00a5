"""Find the recordings below a folder, and the audio files there that are not supported.

A file is a recording if its suffix is one of ``AUDIO_SUFFIXES``, or if its suffix is unknown and
its first bytes are those of an audio file: libsndfile opens it whatever its name. Audio files that
libsndfile does not decode are listed separately, each with a remedy, so that none is missed
silently. MP3 without an ID3 tag has no signature and is recognised by its suffix only.
"""

import os
import shlex
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from birdmix.files import walk_files

#: Suffixes of audio files that libsndfile decodes.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus"}
    | {".mp3", ".mp2", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd", ".voc", ".sph"}
)

_CONVERT_ADVICE = "convert it to FLAC or WAV, as with: ffmpeg -i {old} {new}"
_VIDEO_ADVICE = "extract its audio track, as with: ffmpeg -i {old} -vn {new}"
_RECORDER_ADVICE = "convert it to WAV with the software of the recorder's manufacturer"

#: Suffixes of audio and video files that are not decoded, each with a remedy.
UNSUPPORTED_SUFFIXES = {
    **dict.fromkeys(
        (".m4a", ".m4b", ".aac", ".wma", ".wv", ".ape", ".tta", ".alac"), _CONVERT_ADVICE
    ),
    **dict.fromkeys(
        (".mka", ".weba", ".amr", ".3ga", ".ac3", ".dts", ".ra", ".mpc"), _CONVERT_ADVICE
    ),
    **dict.fromkeys((".spx", ".dsf", ".dff", ".shn", ".tak"), _CONVERT_ADVICE),
    # Wildlife Acoustics' compressed WAV, of Song Meter 2 and of Song Meter 4 and Mini.
    **dict.fromkeys((".wac", ".w4v"), _RECORDER_ADVICE),
    **dict.fromkeys(
        (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".3gp", ".mts"), _VIDEO_ADVICE
    ),
    **dict.fromkeys((".m2ts", ".wmv", ".mpg", ".mpeg", ".flv", ".ogv", ".asf"), _VIDEO_ADVICE),
}

#: Archives whose contents can be listed.
_ZIP_SUFFIXES = (".zip",)
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

#: Archives whose contents cannot be listed.
_UNREADABLE_ARCHIVES = (".7z", ".rar", ".tar.zst")

#: Suffixes of a single compressed file, after its own suffix.
_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

#: Ends of the names of incomplete files and of backups.
_TEMPORARY_SUFFIXES = (
    *(".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart"),
    *(".bak", ".old", ".orig", "~"),
)

#: Suffixes of other files, which are not opened: that would be slow on network disks.
_OTHER_SUFFIXES = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".ini", ".md", ".html"}
    | {".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".png", ".jpg", ".jpeg", ".gif"}
    | {".svg", ".tif", ".tiff", ".npy", ".npz", ".pcm", ".parquet", ".sqlite", ".py", ".r", ".rds"}
    | {".gpx", ".kml", ".db", ".aup3", ".pt", ".ckpt", ".onnx", ".safetensors"}
)

# First bytes of audio files, and the bytes from the ninth on for containers with many uses.
_SIGNATURES = (
    *((kind, form) for kind in (b"RIFF", b"RIFX", b"RF64") for form in (b"WAVE",)),
    *((b"FORM", form) for form in (b"AIFF", b"AIFC")),
    *((first, b"") for first in (b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"NIST_1A")),
    *((first, b"") for first in (b"riff\x2e\x91\xcf\x11", b"Creative Voice File")),
)

# Limits on listing a tar archive, in members and bytes: skipping a member may decompress it.
_MAX_MEMBERS, _MAX_BYTES = 16, 64 << 20


class UnsupportedFile(NamedTuple):
    """An audio file that is not read.

    Attributes:
        path: Path relative to the listed folder.
        reason: Why it is not read, and a remedy.
    """

    path: str
    reason: str


class AudioFileListing(NamedTuple):
    """The audio files below a folder, sorted by path.

    Attributes:
        recordings: Files of supported formats, as paths relative to the folder.
        unsupported: Audio files that are not read.
    """

    recordings: list[str]
    unsupported: list[UnsupportedFile]


def list_audio_files(folder: Path) -> AudioFileListing:
    """Find the audio files below a folder; hidden and system folders are skipped.

    Args:
        folder: Folder to search, with its subfolders.
    """
    recordings, unsupported = [], []
    for path in sorted(walk_files(folder)):
        if _suffix(path) in AUDIO_SUFFIXES:
            recordings.append(path)
        elif _suffix(path) not in _OTHER_SUFFIXES:
            file = os.path.join(folder, path)
            is_audio = _has_audio_signature(file)
            is_temporary = path.lower().endswith(_TEMPORARY_SUFFIXES)
            if is_audio and not is_temporary:
                recordings.append(path)
            elif reason := _unsupported_reason(file, is_audio and is_temporary):
                unsupported.append(UnsupportedFile(path, reason))
    return AudioFileListing(recordings, unsupported)


def find_recordings(folder: Path) -> list[str]:
    """Return the recordings below a folder, see ``list_audio_files``.

    Args:
        folder: Folder to search, with its subfolders.

    Returns:
        Paths relative to the folder, sorted.
    """
    return list_audio_files(folder).recordings


def unsupported_files_message(unsupported: Sequence[UnsupportedFile]) -> str:
    """Format one line about files that are not read: number, kinds, path and reason of the first.

    Args:
        unsupported: At least one file.
    """
    kinds = Counter(_suffix(path).lstrip(".") or "without a suffix" for path, _ in unsupported)
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    files = "audio file is" if len(unsupported) == 1 else "audio files are"
    path, reason = unsupported[0]
    return f"{len(unsupported)} {files} not read ({counted}), first {path}: {reason}"


def unsupported_format_reason(path: str | os.PathLike[str]) -> str:
    """Return why a file of an unsupported format is not decoded, with a remedy.

    Args:
        path: File; only its name is used.

    Returns:
        Reason and remedy, empty for other files.
    """
    name = os.path.basename(path)
    remedy = UNSUPPORTED_SUFFIXES.get(_suffix(name))
    if remedy is None:
        return ""
    new = shlex.quote(os.path.splitext(name)[0] + ".flac")
    return f"{_suffix(name)[1:]} is not supported; {remedy.format(old=shlex.quote(name), new=new)}"


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _has_audio_signature(file: str) -> bool:
    """Return whether a file's first bytes are those of a container that libsndfile opens."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(32)
    except OSError:
        return False
    return any(head.startswith(first) and head[8:].startswith(form) for first, form in _SIGNATURES)


def _unsupported_reason(file: str, is_temporary: bool) -> str:
    """Return why an audio file is not read; empty for files without audio."""
    if is_temporary:
        return "it is named like an incomplete file or a backup; rename it if it is a recording"
    if _suffix(file) in UNSUPPORTED_SUFFIXES:
        return unsupported_format_reason(file)
    if _may_be_audio_archive(file):
        return "it is an archive that may contain recordings; unpack it"
    return ""


def _may_be_audio_archive(file: str) -> bool:
    """Return whether an archive contains audio files; True also if it cannot be opened."""
    name = file.lower()
    if name.endswith(_UNREADABLE_ARCHIVES):
        return True
    try:
        if name.endswith(_ZIP_SUFFIXES):
            with zipfile.ZipFile(file) as archive:
                return _contains_audio_name(archive.namelist())
        if name.endswith(_TAR_SUFFIXES):
            with tarfile.open(file) as archive:
                return _tar_may_contain_audio(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError):
        return True
    return name.endswith(_COMPRESSED_SUFFIXES) and _contains_audio_name([os.path.splitext(name)[0]])


def _tar_may_contain_audio(archive: tarfile.TarFile) -> bool:
    for _, member in zip(range(_MAX_MEMBERS), archive, strict=False):
        if _contains_audio_name([member.name]) or member.offset_data + member.size > _MAX_BYTES:
            return True
    return False


def _contains_audio_name(names: Iterable[str]) -> bool:
    return any(
        _suffix(name) in AUDIO_SUFFIXES or _suffix(name) in UNSUPPORTED_SUFFIXES for name in names
    )
