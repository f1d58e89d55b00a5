"""Listing recordings: no sound is missed without a word, and trash is no recording."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.duplicates import is_named_as_copy
from birdmix.audio.listing import UNREAD_SUFFIXES, find_recordings, list_sound, unread_line
from birdmix.audio.sound_file import AudioError, open_sound
from birdmix.kaggle.task import read_task
from tests.recordings import read_folder, write_wave


def names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the recordings and the unread files of a folder."""
    found = list_sound(folder)
    return found.recordings, [each.path for each in found.unread]


def test_recordings_are_found_by_suffix_and_hidden_files_are_not(tmp_path: Path):
    for name in ("b/x.WAV", "a.ogg", "._a.ogg", ".hidden/x.ogg", "notes.txt", "ä b.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_recordings(tmp_path) == ["a.ogg", "b/x.WAV", "ä b.mp3"]


@pytest.mark.parametrize("name", ["a.wave", "a.bwf", "a", "a.wav.1", "REC0001.dat", "a.m4a"])
def test_what_begins_as_a_sound_file_is_a_recording_whatever_its_suffix(tmp_path: Path, name: str):
    write_wave(tmp_path / "x.wav")
    (tmp_path / "x.wav").rename(tmp_path / name)
    assert names(tmp_path) == ([name], [])


@pytest.mark.parametrize("container", ["AIFF", "FLAC", "OGG", "W64", "RF64", "CAF", "AU", "VOC"])
def test_every_container_is_known_by_its_first_bytes(tmp_path: Path, container: str):
    soundfile.write(tmp_path / "x", np.zeros(4000), 8000, format=container)
    assert names(tmp_path) == (["x"], [])


def test_sound_that_is_not_decoded_is_listed_with_its_remedy(tmp_path: Path):
    kinds = ["m4a", "aac", "wma", "wv", "w4v", "wac", "mp4"]
    for kind in kinds:
        (tmp_path / f"A 1.{kind.upper()}").write_bytes(b"\0\0\0 ftypM4A ")
    assert {f".{kind}" for kind in kinds} <= set(UNREAD_SUFFIXES)
    recordings, unread = list_sound(tmp_path)
    assert recordings == [] and [path for path, _ in unread] == sorted(
        f"A 1.{kind.upper()}" for kind in kinds
    )
    assert dict(unread)["A 1.M4A"] == (
        "m4a is not decoded here; convert it to FLAC or WAV, as with: "
        "ffmpeg -i 'A 1.M4A' 'A 1.flac'"
    )
    assert "7 files of sound are not read (1 aac, 1 m4a, " in unread_line(unread)
    with pytest.raises(AudioError, match="m4a is not decoded here; convert it"):
        open_sound(tmp_path / "A 1.M4A")  # where a table names it


def test_archives_are_listed_where_they_hold_recordings_or_may(tmp_path: Path):
    write_wave(tmp_path / "night.wav")
    (tmp_path / "text.txt").write_text("no sound")
    for stem, inside in (("sound", "night.wav"), ("texts", "text.txt")):
        with zipfile.ZipFile(tmp_path / f"{stem}.zip", "w") as archive:
            archive.write(tmp_path / inside, f"deep/{inside}")
        with tarfile.open(tmp_path / f"{stem}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / inside, inside)
    for name in ("torn.zip", "closed.7z", "night2.wav.gz", "table.csv.gz"):
        (tmp_path / name).write_bytes(b"?")
    wanted = ["closed.7z", "night2.wav.gz", "sound.tar.gz", "sound.zip", "torn.zip"]
    assert names(tmp_path) == (["night.wav"], wanted)


def test_sound_named_like_an_unfinished_or_old_file_is_listed_and_not_read(tmp_path: Path):
    for name in ("a.wav.part", "b.wav.bak", "c.wav~", "d.tmp"):
        write_wave(tmp_path / "x.wav")
        (tmp_path / "x.wav").rename(tmp_path / name)
    (tmp_path / "e.tmp").write_text("no sound")
    assert names(tmp_path) == ([], ["a.wav.part", "b.wav.bak", "c.wav~", "d.tmp"])


def test_other_files_are_no_sound(tmp_path: Path):
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
def test_folders_that_systems_keep_are_not_entered(tmp_path: Path, folder: str):
    write_wave(tmp_path / "site" / folder / "deep" / "a.wav")
    write_wave(tmp_path / "site" / "a.wav")
    assert names(tmp_path) == (["site/a.wav"], [])
    assert names(tmp_path / "site" / folder) == (["deep/a.wav"], [])  # named by a user


def test_names_of_copies_are_known():
    copies = ["Copy of a.wav", "a - Copy.wav", "a copy 2.wav", "a (1).wav", "backup/a.wav"]
    copies += ["a - Copy (3).wav", "site_copy/a.wav", "x/Old/a.wav", "a_copy.wav"]
    assert all(map(is_named_as_copy, copies))
    originals = ["a.wav", "photocopy.wav", "XC1 (song).wav", "scopy/a.wav", "old barn/a.wav"]
    assert not any(map(is_named_as_copy, originals))


def test_a_reader_of_training_data_warns_of_sound_that_it_does_not_read(tmp_path: Path):
    write_wave(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.m4a").write_bytes(b"?")
    with pytest.warns(UserWarning, match=r"1 file of sound is not read \(1 m4a\), first robin/b"):
        assert read_folder(tmp_path).paths == ["robin/a.wav"]
    (tmp_path / "exclude.txt").write_text("robin/b.m4a\n")  # known, and left out
    read_folder(tmp_path, exclude=str(tmp_path / "exclude.txt"))


def test_a_submission_warns_of_soundscapes_that_it_does_not_read(tmp_path: Path):
    (tmp_path / "sample_submission.csv").write_text("row_id,robin\na_5,0.5\n")
    write_wave(tmp_path / "test_soundscapes" / "a.wav", seconds=5)
    (tmp_path / "test_soundscapes" / "b.m4a").write_bytes(b"?")
    with pytest.warns(UserWarning) as warned:
        read_task(tmp_path)
    assert any("1 file of sound is not read (1 m4a), first b.m4a" in str(w.message) for w in warned)
