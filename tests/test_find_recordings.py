"""Finding recordings: unsupported audio files are reported, deleted files are not listed."""

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.audio_file import AudioError, open_audio
from birdmix.audio.duplicates import has_copy_name
from birdmix.audio.find_recordings import (
    UNSUPPORTED_SUFFIXES,
    find_recordings,
    list_audio_files,
    unsupported_files_message,
)
from birdmix.kaggle.submission_task import read_task
from tests.recordings import read_folder, write_wave


def names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the recordings and the unsupported files of a folder."""
    files = list_audio_files(folder)
    return files.recordings, [file.path for file in files.unsupported]


def test_recordings_are_found_by_suffix_and_hidden_files_are_not(tmp_path: Path):
    for name in ("b/x.WAV", "a.ogg", "._a.ogg", ".hidden/x.ogg", "notes.txt", "ä b.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_recordings(tmp_path) == ["a.ogg", "b/x.WAV", "ä b.mp3"]


@pytest.mark.parametrize("name", ["a.wave", "a.bwf", "a", "a.wav.1", "REC0001.dat", "a.m4a"])
def test_a_file_with_the_signature_of_audio_is_a_recording_whatever_its_suffix(
    tmp_path: Path, name: str
):
    write_wave(tmp_path / "x.wav")
    (tmp_path / "x.wav").rename(tmp_path / name)
    assert names(tmp_path) == ([name], [])


def test_listing_asks_for_the_state_of_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "site").mkdir()
    for number in range(5):
        (tmp_path / "site" / f"{number}.wav").touch()
    (tmp_path / "site" / "link.wav").symlink_to(tmp_path / "site" / "0.wav")
    (tmp_path / "site" / "circle.wav").symlink_to(tmp_path / "site" / "circle.wav")
    stat = os.stat
    asked: list[str] = []
    monkeypatch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path))
    found = find_recordings(tmp_path)
    monkeypatch.undo()
    assert found == [f"site/{number}.wav" for number in (0, 1, 2, 3, 4, "link")]
    assert not any(str(path).endswith(".wav") for path in asked)


@pytest.mark.parametrize("container", ["AIFF", "FLAC", "OGG", "W64", "RF64", "CAF", "AU", "VOC"])
def test_every_container_is_recognised_by_its_first_bytes(tmp_path: Path, container: str):
    soundfile.write(tmp_path / "x", np.zeros(4000), 8000, format=container)
    assert names(tmp_path) == (["x"], [])


def test_unsupported_audio_files_are_listed_with_a_remedy(tmp_path: Path):
    kinds = ["m4a", "aac", "wma", "wv", "w4v", "wac", "mp4"]
    for kind in kinds:
        (tmp_path / f"A 1.{kind.upper()}").write_bytes(b"\0\0\0 ftypM4A ")
    assert {f".{kind}" for kind in kinds} <= set(UNSUPPORTED_SUFFIXES)
    recordings, unsupported = list_audio_files(tmp_path)
    assert recordings == [] and [path for path, _ in unsupported] == sorted(
        f"A 1.{kind.upper()}" for kind in kinds
    )
    assert dict(unsupported)["A 1.M4A"] == (
        "m4a is not supported; convert it to FLAC or WAV, as with: ffmpeg -i 'A 1.M4A' 'A 1.flac'"
    )
    assert "7 audio files are not read (1 aac, 1 m4a, " in unsupported_files_message(unsupported)
    with pytest.raises(AudioError, match="m4a is not supported; convert it"):
        open_audio(tmp_path / "A 1.M4A")  # where a table names it


def test_archives_that_may_contain_recordings_are_listed(tmp_path: Path):
    write_wave(tmp_path / "night.wav")
    (tmp_path / "text.txt").write_text("no sound")
    for stem, inside in (("sound", "night.wav"), ("texts", "text.txt")):
        with zipfile.ZipFile(tmp_path / f"{stem}.zip", "w") as archive:
            archive.write(tmp_path / inside, f"deep/{inside}")
        with tarfile.open(tmp_path / f"{stem}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / inside, inside)
    for name in ("corrupt.zip", "closed.7z", "night2.wav.gz", "table.csv.gz"):
        (tmp_path / name).write_bytes(b"?")
    expected = ["closed.7z", "corrupt.zip", "night2.wav.gz", "sound.tar.gz", "sound.zip"]
    assert names(tmp_path) == (["night.wav"], expected)


def test_audio_files_named_like_incomplete_files_or_backups_are_not_read(tmp_path: Path):
    for name in ("a.wav.part", "b.wav.bak", "c.wav~", "d.tmp"):
        write_wave(tmp_path / "x.wav")
        (tmp_path / "x.wav").rename(tmp_path / name)
    (tmp_path / "e.tmp").write_text("no sound")
    assert names(tmp_path) == ([], ["a.wav.part", "b.wav.bak", "c.wav~", "d.tmp"])


def test_other_files_are_not_listed(tmp_path: Path):
    for name, content in {
        "utf16": b"\xff\xfeh\0i\0",
        "picture.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "film.ani": b"RIFF\x10\0\0\0ACON",
        "empty": b"",
        "noted.txt": b"RIFF\x10\0\0\0WAVE",
    }.items():
        (tmp_path / name).write_bytes(content)
    assert names(tmp_path) == ([], [])


@pytest.mark.parametrize(
    "folder",
    [
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "#recycle", "#snapshot"),
        *("@eaDir", "@Recycle", "__MACOSX", "lost+found", ".Trash-1000"),
    ],
)
def test_system_folders_are_not_entered(tmp_path: Path, folder: str):
    write_wave(tmp_path / "site" / folder / "deep" / "a.wav")
    write_wave(tmp_path / "site" / "a.wav")
    assert names(tmp_path) == (["site/a.wav"], [])
    assert names(tmp_path / "site" / folder) == (["deep/a.wav"], [])  # named by a user


def test_names_of_copies_are_recognised():
    copies = ["Copy of a.wav", "a - Copy.wav", "a copy 2.wav", "a (1).wav", "backup/a.wav"]
    copies += ["a - Copy (3).wav", "site_copy/a.wav", "x/Old/a.wav", "a_copy.wav"]
    assert all(map(has_copy_name, copies))
    originals = ["a.wav", "photocopy.wav", "XC1 (song).wav", "scopy/a.wav", "old barn/a.wav"]
    assert not any(map(has_copy_name, originals))


def test_readers_of_training_data_warn_of_unsupported_audio_files(tmp_path: Path):
    write_wave(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.m4a").write_bytes(b"?")
    with pytest.warns(UserWarning, match=r"1 audio file is not read \(1 m4a\), first robin/b"):
        assert read_folder(tmp_path).paths == ["robin/a.wav"]
    (tmp_path / "exclude.txt").write_text("robin/b.m4a\n")  # excluded, so no warning
    read_folder(tmp_path, exclude=str(tmp_path / "exclude.txt"))


def test_a_submission_warns_of_unsupported_soundscapes(tmp_path: Path):
    (tmp_path / "sample_submission.csv").write_text("row_id,robin\na_5,0.5\n")
    write_wave(tmp_path / "test_soundscapes" / "a.wav", seconds=5)
    (tmp_path / "test_soundscapes" / "b.m4a").write_bytes(b"?")
    with pytest.warns(UserWarning) as warned:
        read_task(tmp_path)
    assert any("1 audio file is not read (1 m4a), first b.m4a" in str(w.message) for w in warned)
