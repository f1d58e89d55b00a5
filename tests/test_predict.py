"""`birdmix predict`: every recording ends in exactly one place, whatever ends the process."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from birdmix.app.cli import app
from birdmix.app.parts import Part
from birdmix.inference.journal import Entry, Journal
from birdmix.inference.targets import find_targets
from birdmix.labels import Labels
from birdmix.ownership import LIST
from birdmix.recordings.pseudo import read_pseudo
from birdmix.recordings.settings import PseudoSettings
from tests.conftest import ROOT

runner = CliRunner()

TEXT = {"dtype": {"path": str, "warning": str, "deployment": str}, "keep_default_na": False}


def call(bundle: Path, folder: Path, out: Path, *options: str) -> str:
    done = runner.invoke(
        app, ["predict", "--bundle", str(bundle), str(folder), "--out", str(out), *options]
    )
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def refusal(bundle: Path, folder: Path, out: Path, *options: str) -> str:
    done = runner.invoke(
        app, ["predict", "--bundle", str(bundle), str(folder), "--out", str(out), *options]
    )
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output and done.stderr.strip().count("\n") == 0
    return done.stderr


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, **TEXT)


def tables(out: Path) -> dict[str, bytes]:
    """Return what a user gets, but for how long it took and when it was written."""
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and file.name not in ("run.json", "journal.sqlite", LIST)
    }


@pytest.fixture(scope="module")
def scores(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of the demo's soundscapes, by the bundle's own thresholds."""
    out = tmp_path_factory.mktemp("scores")
    formats = [f"--format={name}" for name in ("raven", "audacity", "birdnet", "kaleidoscope")]
    call(bundle, demo / "test_soundscapes", out, "--scores", "csv", *formats)
    return out


def test_a_folder_is_heard_window_by_window(scores: Path, demo: Path):
    every = read(scores / "scores.csv")
    assert len(every) == 2 * 12 and read(scores / "failed.csv").empty
    first = every[every["path"] == every["path"][0]]
    assert first["start_seconds"].tolist() == [5 * w for w in range(12)]
    assert first["end_seconds"].tolist() == [5 * w + 5 for w in range(12)]
    codes = sorted(pd.read_csv(demo / "taxonomy.csv", dtype=str).iloc[:, 0])
    assert list(every.columns[5:]) == codes
    assert every[codes].gt(0).all(axis=None) and every[codes].lt(1).all(axis=None)


def test_detections_are_the_windows_at_the_bundles_thresholds(scores: Path, bundle: Path):
    manifest = json.loads((bundle / "bundle.json").read_text())
    thresholds = dict(zip(manifest["labels"]["codes"], manifest["thresholds"], strict=True))
    every, found = read(scores / "scores.csv"), read(scores / "detections.csv")
    for (path, code), some in found.groupby(["path", "species"]):
        rows = every[every["path"] == path]
        called = rows[rows[code] >= thresholds[code] - 1e-6]
        assert (some["end_seconds"] - some["start_seconds"]).sum() == 5 * len(called)
        assert some["confidence"].max() == pytest.approx(called[code].max(), abs=1e-5)
    named = (every[list(thresholds)] >= [t or 2 for t in thresholds.values()]).any(axis=None)
    assert named == bool(len(found))


def test_scores_are_soft_labels_of_another_run(scores: Path, demo: Path, bundle: Path):
    labels = Labels(tuple(json.loads((bundle / "bundle.json").read_text())["labels"]["codes"]))
    settings = PseudoSettings(str(scores / "scores.csv"), str(demo / "test_soundscapes"))
    recordings = read_pseudo(settings, labels, follow_links=False)
    assert len(recordings) == 24 and recordings.targets().max() <= 0.75


def test_run_json_says_what_was_done(scores: Path, demo: Path):
    run = json.loads((scores / "run.json").read_text())
    assert run["folder"] == str(demo / "test_soundscapes")
    assert run["counts"]["recordings"] == run["counts"]["heard_now"] == 2
    assert run["heard_with"]["window"] == "5.0" and len(run["heard_with"]["bundle 1"]) == 64
    assert run["options"]["scores"] == "csv" and run["hours_heard_now"] == round(2 / 60, 4)


def test_any_rate_channels_and_depth_of_folders_are_heard(bundle: Path, tmp_path: Path):
    folder = tmp_path / "in"
    (folder / "a" / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    stereo = folder / "a/b/SITE_20240501_233000.wav"
    soundfile.write(stereo, rng.normal(0, 0.1, (48_000 * 7, 2)), 48_000)
    soundfile.write(folder / "short.flac", rng.normal(0, 0.1, 800), 8000)
    shutil.copy(folder / "short.flac", folder / "._short.flac")
    call(bundle, folder, tmp_path / "out", "--scores", "csv", "--threshold", "1e-6")
    every = read(tmp_path / "out" / "scores.csv")
    assert every["path"].tolist() == ["a/b/SITE_20240501_233000.wav"] * 2 + ["short.flac"]
    assert every["end_seconds"].tolist() == [5, 7, 0.1]
    assert every["datetime"].tolist() == ["2024-05-01T23:30:00", "2024-05-01T23:30:05", ""]
    assert every["deployment"].tolist() == ["a/b", "a/b", "in"]
    heard = read(tmp_path / "out" / "recordings.csv")
    assert heard["seconds"].tolist() == [7, 0.1] and heard["windows"].tolist() == [2, 1]
    assert (heard["detections"] == len(every.columns) - 5).all()  # each species, merged


def test_single_files_are_predicted_as_in_their_folder(
    bundle: Path, scores: Path, demo: Path, tmp_path: Path
):
    files = sorted((demo / "test_soundscapes").iterdir())
    runner_said = runner.invoke(
        app,
        ["predict", *map(str, files), "--bundle", str(bundle), "--out", str(tmp_path / "o")],
    )
    assert runner_said.exit_code == 0, runner_said.output
    for name in ("detections.csv", "recordings.csv", "effort.csv"):
        assert (tmp_path / "o" / name).read_bytes() == (scores / name).read_bytes()
    call(bundle, files[1], tmp_path / "one")
    assert read(tmp_path / "one" / "recordings.csv")["path"].tolist() == [files[1].name]
    assert json.loads((tmp_path / "one" / "run.json").read_text())["folder"] == str(files[1].parent)
    assert "no such file or folder" in refusal(bundle, tmp_path / "absent.wav", tmp_path / "x")


def test_files_and_folders_together_are_named_from_the_folder_that_holds_them(tmp_path: Path):
    for name in ("a/x.wav", "a/y.m4a", "b/c/z.wav", "b/c/w.wav", "b/v.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"?")
    folder, recordings, unread = find_targets(
        [tmp_path / "a", tmp_path / "b/c/z.wav", tmp_path / "b/v.m4a", tmp_path / "a/x.wav"]
    )
    assert folder == tmp_path and recordings == ["a/x.wav", "b/c/z.wav", "b/v.m4a"]
    assert [path for path, _ in unread] == ["a/y.m4a"]  # one that is named itself is asked for


def test_sound_that_cannot_be_read_is_counted_and_named(bundle: Path, tmp_path: Path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.wav", "b.wave", "$RECYCLE.BIN/a.wav"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(folder / name, np.full(8000, 0.1), 8000, format="WAV")
    (folder / "c.m4a").write_bytes(b"?")
    (folder / "d.zip").write_bytes(b"?")
    said = call(bundle, folder, out)
    assert "heard 2 of 2 recordings" in said
    assert "warning: 2 files of sound are not read (1 m4a, 1 zip), first c.m4a: m4a is not" in said
    assert read(out / "recordings.csv")["path"].tolist() == ["a.wav", "b.wave"]
    assert read(out / "failed.csv")["path"].tolist() == ["c.m4a", "d.zip"]
    assert json.loads((out / "run.json").read_text())["counts"]["unread"] == 2
    (tmp_path / "none").mkdir()
    (tmp_path / "none/c.m4a").write_bytes(b"?")
    said = refusal(bundle, tmp_path / "none", out)
    assert "no recordings here; 1 file of sound is not read (1 m4a), first c.m4a" in said


def test_a_clock_that_was_not_set_is_a_warning_and_no_datetime(bundle: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(tmp_path / "in" / "19700101_000012.WAV", noise, 8000)
    call(bundle, tmp_path / "in", tmp_path / "out")
    heard = read(tmp_path / "out" / "recordings.csv")
    assert heard["warning"].tolist() == ["the clock was not set: 1970-01-01T00:00:12"]
    assert heard["datetime"].tolist() == [""]


def test_every_odd_file_ends_in_exactly_one_place(bundle: Path, real_audio: Path, tmp_path: Path):
    odd = real_audio / "odd"
    call(bundle, odd, tmp_path)
    heard, failed = read(tmp_path / "recordings.csv"), read(tmp_path / "failed.csv")
    everything = {p.relative_to(odd).as_posix() for p in odd.rglob("*") if p.is_file()}
    assert sorted([*heard["path"], *failed["path"]]) == sorted(everything)
    assert len(everything) == 48
    assert set(failed["path"]) == {
        "flac/04 - wrong number of channels.flac",
        "flac/11 - incorrect metadata block length.flac",
        "hound/crash-e5471f5b58397287b509db7d026e95f1724454f5.wav",
        "hound/waveformatextensible-24bit-192kHz-mono.wav",  # 4 samples: none at 16 kHz
        "librosa_data/Karissa_Hobbs_-_Let's_Go_Fishin'.ogg",
        "opensoundscape/empty_2c.wav",
        "scipy/test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav",
        "tinytag/empty_file.wav",
        "tinytag/incomplete.mp3",
        "tinytag/invalid_file.wav",
        "tinytag/no_audio_data_uncompressed.wav",
    }
    assert failed["error"].str.len().gt(5).all() and not failed["error"].str.contains("odd/").any()
    warning = heard.set_index("path")["warning"]
    assert "silent" in warning["tinytag/24bit_pcm.wav"]
    assert "header says 47232 samples, 46080 decoded" in warning["tinytag/mp3_audio.wav"]
    assert "clipped" in warning["hound/waveformatextensible-ieeefloat-44100Hz-mono.wav"]


# ---------------------------------------------------------------- going on


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short recordings, one of them broken."""
    folder = tmp_path_factory.mktemp("nights")
    rng = np.random.default_rng(0)
    for number in range(40):
        sound = rng.normal(0, 0.1, 32_000 * (3 + number % 9))
        name = f"S_202405{number // 24 + 1:02d}_{number % 24:02d}0000.wav"
        soundfile.write(folder / name, sound, 32_000)
    (folder / "broken.wav").write_bytes(b"no sound")
    return folder


MAIN = "from birdmix.app.cli import main; main()"
SOME = ("--scores", "csv", "--format", "raven", "--threshold", "0.01")


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_to_the_same_end(
    bundle: Path, nights: Path, tmp_path: Path, kills: int
):
    call(bundle, nights, tmp_path / "whole", *SOME)
    out = tmp_path / "killed"
    command = [sys.executable, "-c", MAIN, "predict", "--bundle", str(bundle)]
    command += [str(nights), "--out", str(out), *SOME]
    heard_before = 0
    for kill in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        target, deadline = 2 + 5 * kill, time.monotonic() + 200
        while heard(out) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert heard(out) >= max(heard_before, target)  # nothing is lost
        heard_before = heard(out)
    said = call(bundle, nights, out, *SOME)
    assert f"{heard_before} of 41 recordings were heard before" in said
    assert tables(out) == tables(tmp_path / "whole")


def heard(out: Path) -> int:
    """Return how many recordings a journal holds, from a copy: its writer locks it."""
    copy = out.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(out, copy)
        with sqlite3.connect(copy / "journal.sqlite") as database:
            return database.execute("SELECT COUNT(*) FROM heard").fetchone()[0]
    except (OSError, sqlite3.Error):
        return 0


def test_more_recordings_changed_ones_and_fewer(bundle: Path, nights: Path, tmp_path: Path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    files = sorted(nights.glob("*.wav"))
    for file in files[:4]:
        shutil.copy(file, folder)
    assert "heard 4 of 4" in call(bundle, folder, out)
    shutil.copy(files[4], folder)
    shutil.copy(files[5], folder / files[0].name)
    (folder / files[1].name).unlink()
    said = call(bundle, folder, out)
    assert "2 of 4 recordings were heard before" in said and "heard 2 of 2" in said
    call(bundle, folder, tmp_path / "new")
    assert tables(out) == tables(tmp_path / "new")


def test_what_is_made_of_it_changes_without_listening(bundle: Path, scores: Path, demo: Path):
    folder, out = demo / "test_soundscapes", scores.with_name("other")
    shutil.copytree(scores, out)
    said = call(bundle, folder, out, "--threshold", "0.01", "--smoothing", "0.5")
    assert "2 of 2 recordings were heard before" in said and "times real time" not in said
    assert "afresh" not in said


def test_another_way_of_listening_starts_afresh_and_says_so(
    bundle: Path, scores: Path, demo: Path, tmp_path: Path
):
    folder, out = demo / "test_soundscapes", tmp_path / "out"
    shutil.copytree(scores, out)
    said = call(bundle, folder, out, "--step", "2.5", "--scores", "csv")
    assert "starting afresh, since what is heard depends on step (was 5.0)" in said
    assert len(read(out / "scores.csv")) == 2 * 23
    shutil.copy(out / "journal-before.sqlite", out / "journal.sqlite")  # nothing is lost
    assert "2 of 2 recordings were heard before" in call(bundle, folder, out)
    other = edited(bundle, tmp_path / "other", softmax=True)
    assert "depends on bundle 1 (was" in call(other, folder, out)


def test_what_changes_nothing_heard_does_not_start_afresh(
    bundle: Path, scores: Path, demo: Path, tmp_path: Path
):
    out, moved = tmp_path / "out", tmp_path / "moved"
    shutil.copytree(scores, out)
    shutil.copytree(demo / "test_soundscapes", moved)
    other = edited(bundle, tmp_path / "other", thresholds=[0.3] * 12, metrics={"made": 1.0})
    for call_of in (
        (bundle, moved),
        (other, moved),
        (bundle, moved, "--power", "3", "--combine", "power"),
    ):
        said = call(call_of[0], call_of[1], out, *call_of[2:])
        assert "2 of 2 recordings were heard before" in said and "afresh" not in said


def test_a_refused_command_costs_nothing(bundle: Path, scores: Path, demo: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(scores, out)
    before = tables(out)
    for wrong in (
        ("--pool", "mean"),
        ("--bundle", str(bundle), "--combine", "rank"),
        ("--step", "2.5", "--timezone", "Europe/Berln"),
        ("--step", "2.5", "--species", "absent"),
    ):
        refusal(bundle, demo / "test_soundscapes", out, *wrong)
    assert tables(out) == before
    assert "2 of 2 recordings were heard before" in call(bundle, demo / "test_soundscapes", out)


def test_recordings_that_are_gone_are_said_and_come_back(
    bundle: Path, nights: Path, tmp_path: Path
):
    folder, card = tmp_path / "in", tmp_path / "card"
    folder.mkdir()
    card.mkdir()
    for number, file in enumerate(sorted(nights.glob("S_*.wav"))[:4]):
        shutil.copy2(file, folder if number % 2 else card)
    (folder / "card").symlink_to(card)
    call(bundle, folder, tmp_path / "out", *SOME)
    whole = tables(tmp_path / "out")
    (folder / "card").unlink()
    said = call(bundle, folder, tmp_path / "out", *SOME)
    assert "2 recordings heard before are no longer here, and not in the tables" in said
    assert len(read(tmp_path / "out" / "recordings.csv")) == 2
    (folder / "card").symlink_to(card)
    assert "4 of 4 recordings were heard before" in call(bundle, folder, tmp_path / "out", *SOME)
    assert tables(tmp_path / "out") == whole


def test_what_stood_there_is_kept_up_with(bundle: Path, scores: Path, demo: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(scores, out)
    call(bundle, demo / "test_soundscapes", out, "--threshold", "0.999")
    assert read(out / "detections.csv").empty and not list((out / "raven").rglob("*.txt"))
    assert len(read(out / "birdnet" / "birdnet.csv")) == 0


def test_a_folder_of_which_nothing_is_heard_ends_otherwise(bundle: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.wav").write_bytes(b"no sound")
    done = runner.invoke(
        app,
        ["predict", "--bundle", str(bundle), str(tmp_path / "in"), "--out", str(tmp_path / "out")],
    )
    assert done.exit_code == 1 and "broken.wav: cannot be opened as sound" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_a_line(
    bundle: Path, nights: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
):
    kept = Journal.keep

    def interrupted(self: Journal, entry: Entry) -> None:
        kept(self, entry)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Journal, "keep", interrupted)
    done = runner.invoke(
        app, ["predict", "--bundle", str(bundle), str(nights), "--out", str(tmp_path)]
    )
    assert done.exit_code == 128 + number
    assert "interrupted; what was heard is kept, and the same command goes on" in done.stderr
    monkeypatch.undo()
    assert "1 of 41 recordings were heard before" in call(bundle, nights, tmp_path)


def test_a_damaged_journal_is_said_and_replaced(scores: Path, bundle: Path, demo: Path):
    out = scores.with_name("damaged")
    shutil.copytree(scores, out)
    whole = (out / "journal.sqlite").read_bytes()
    damages = (b"no journal" * 1000, whole[:8192] + bytes(len(whole) - 8192))
    for aside, damage in zip(("journal-damaged", "journal-damaged-2"), damages, strict=True):
        (out / "journal.sqlite").write_bytes(damage)
        said = call(bundle, demo / "test_soundscapes", out, "--scores", "csv")
        assert "journal.sqlite was damaged; starting afresh" in said and "heard 2 of 2" in said
        assert (out / f"{aside}.sqlite").read_bytes() == damage
    assert (out / "scores.csv").read_bytes() == (scores / "scores.csv").read_bytes()


#: What a row of the journal is changed to, in SQL, and what is said of it.
WRONG_CELLS = {
    "score of another type": ("UPDATE scores SET score = 'text' WHERE heard = 1", "not rows of 3"),
    "score of another length": ("UPDATE scores SET score = x'00' WHERE heard = 1", "not rows of 3"),
    "score torn": (
        "UPDATE scores SET score = substr(score, 1, 24) WHERE heard = 1",
        "2 rows of scores instead of 5",
    ),
    "no score": ("DELETE FROM scores WHERE heard = 1", "0 rows of scores instead of 5"),
    "NaN": (
        "UPDATE scores SET score = CAST(x'0000c07f' || substr(score, 5) AS BLOB) WHERE heard = 1",
        "not finite",
    ),
    "infinite": (
        "UPDATE scores SET score = CAST(x'0000807f' || substr(score, 5) AS BLOB) WHERE heard = 1",
        "not finite",
    ),
    "part of another number": ("UPDATE scores SET part = 7 WHERE heard = 1", "scores are missing"),
    "size": ("UPDATE heard SET size = 'big' WHERE id = 1", "of another type"),
    "seconds": ("UPDATE heard SET seconds = -1 WHERE id = 1", "its length is -1.0 s"),
    "seconds without end": ("UPDATE heard SET seconds = 9e999 WHERE id = 1", "length is inf s"),
    "datetime": ("UPDATE heard SET recorded_at = 'May' WHERE id = 1", "its datetime is none"),
    "no UTF-8": (
        "UPDATE heard SET recorded_at = CAST(x'ff' AS TEXT) WHERE id = 1",
        "its datetime is none",
    ),
    "warning": ("UPDATE heard SET warning = x'00' WHERE id = 1", "of another type"),
}


@pytest.mark.parametrize("name", WRONG_CELLS)
def test_a_recording_with_a_wrong_cell_is_no_longer_known(name: str, tmp_path: Path):
    change, said = WRONG_CELLS[name]
    file, score = tmp_path / "j", np.ones((5, 3), np.float32)

    def opened() -> Journal:
        return Journal(file, {"a": "1"}, 3, num_rows=lambda seconds: (int(seconds), int(seconds)))

    with opened() as journal:
        for path in ("a.wav", "b.wav"):
            journal.keep(Entry(path, 7, 8, 5.0, None, "", score))
    with closing(sqlite3.connect(file)) as database:
        database.execute(change)
        database.commit()
    with opened() as journal:
        if journal.aside is None:
            assert said in journal.dropped.pop("a.wav") and not journal.dropped
            assert journal.known().keys() == {"b.wav"}
        else:  # newer versions of SQLite look at types themselves
            assert journal.aside == tmp_path / "j-damaged" and not journal.known()
        journal.keep(Entry("a.wav", 7, 8, 5.0, None, "", score))
    with opened() as journal:
        assert not journal.dropped and "a.wav" in journal.known()


def test_only_columns_of_species_that_a_model_lacks_hold_nan(tmp_path: Path):
    score = np.ones((2, 3), np.float32)
    score[:, 1] = np.nan
    for unknown, dropped in (([False, True, False], set()), ([True, False, False], {"a"})):
        with Journal(tmp_path / "j", {}, 3, unknown=np.array(unknown)) as journal:
            assert journal.dropped.keys() == dropped
            journal.keep(Entry("a", 7, 8, 5.0, None, "", score))


def test_another_database_in_the_journals_place_is_set_aside_whole(tmp_path: Path):
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE scores (mine TEXT)")
        database.execute("INSERT INTO scores VALUES ('years of work')")
        database.commit()
    with Journal(file, {"a": "1"}, 3) as journal:
        assert journal.aside == tmp_path / "journal-damaged.sqlite"
    with closing(sqlite3.connect(journal.aside)) as database:
        assert database.execute("SELECT mine FROM scores").fetchall() == [("years of work",)]


def test_a_damaged_entry_is_said_and_its_recording_predicted_again(
    bundle: Path, scores: Path, demo: Path
):
    out = scores.with_name("wrong")
    shutil.copytree(scores, out)
    with closing(sqlite3.connect(out / "journal.sqlite")) as database:
        database.execute("UPDATE scores SET score = substr(score, 1, 48) WHERE heard = 1")
        database.commit()
    said = call(bundle, demo / "test_soundscapes", out, "--scores", "csv")
    assert "1 recordings have damaged entries and are predicted again: " in said
    assert "(1 rows of scores instead of 12)" in said and "heard 1 of 1" in said
    assert tables(out) == tables(scores)


@pytest.mark.parametrize("value", ["nonsense f32", "", "onnx"])
def test_a_journal_cannot_name_an_engine_that_there_is_none_of(
    bundle: Path, scores: Path, demo: Path, tmp_path: Path, value: str
):
    shutil.copytree(scores, tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / "journal.sqlite")) as database:
        database.execute("UPDATE about SET value = ? WHERE key = 'engine 1'", (value,))
        database.commit()
    folder = demo / "test_soundscapes"
    if value == "onnx":  # what has begun with an engine goes on with it
        assert "is not exported to it" in refusal(bundle, folder, tmp_path / "out")
    else:
        assert "depends on engine 1 (was " in call(bundle, folder, tmp_path / "out")


def test_a_second_process_in_one_place_is_refused(tmp_path: Path):
    taken = pytest.raises(ValueError, match="another birdmix is listening into this")
    with Journal(tmp_path / "j", {"a": "1"}, 1), taken:
        Journal(tmp_path / "j", {"a": "1"}, 1)
    with Journal(tmp_path / "j", {"a": "1"}, 1) as journal:
        assert not journal.changed


def test_a_journal_gives_back_what_it_was_given(tmp_path: Path):
    rng = np.random.default_rng(0)
    entries = [
        Entry(path, 7, 2**62, 1.5, told, "odd", rng.normal(size=(rows, 3)).astype(np.float32))
        for path, told, rows in (("b\udcff.wav", None, 1), ("a/é.wav", "2024-05-01", 9000))
    ]
    with Journal(tmp_path / "j", {}, 3) as journal:
        for each in [entries[0], *entries]:  # one twice
            journal.keep(each)
    with Journal(tmp_path / "j", {}, 3) as journal:
        found = list(journal.entries({each.path for each in entries}))
        assert [each.path for each in journal.entries({"a/é.wav"})] == ["a/é.wav"]
    assert [each.path for each in found] == ["a/é.wav", "b\udcff.wav"]
    for each, wanted in zip(found, entries[::-1], strict=True):
        np.testing.assert_array_equal(each.score, wanted.score)
        assert (each.size, each.modified, each.recorded_at) == (7, 2**62, wanted.recorded_at)


def test_a_full_disk_ends_in_one_line_and_goes_on_later(
    bundle: Path, nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = Journal.keep

    def full(self: Journal, entry: Entry) -> None:
        if len(self.known()) == 20:
            self.database.execute("PRAGMA max_page_count = 1")
        kept(self, entry)

    monkeypatch.setattr(Journal, "keep", full)
    dense = (*SOME, "--step", "0.1")
    said = refusal(bundle, nights, tmp_path / "out", *dense)
    assert "database or disk is full" in said and "the same command goes on" in said
    assert not (tmp_path / "out" / "detections.csv").exists()
    monkeypatch.undo()
    assert "were heard before" in call(bundle, nights, tmp_path / "out", *dense)


# ---------------------------------------------------------------- several bundles, processes


def test_a_bundle_twice_says_what_it_says_once(bundle: Path, scores: Path, demo: Path):
    out = scores.with_name("twice")
    call(bundle, demo / "test_soundscapes", out, "--bundle", str(bundle), "--scores", "csv")
    alone, twice = read(scores / "scores.csv"), read(out / "scores.csv")
    pd.testing.assert_frame_equal(alone, twice, atol=1e-5)


def test_ranks_need_a_threshold_and_are_shares(bundle: Path, demo: Path, tmp_path: Path):
    folder = demo / "test_soundscapes"
    both = ("--bundle", str(bundle), "--combine", "rank")
    assert "thresholds; give one" in refusal(bundle, folder, tmp_path, *both)
    call(bundle, folder, tmp_path, *both, "--threshold", "0.9", "--scores", "csv")
    every = read(tmp_path / "scores.csv").iloc[:, 5:]
    np.testing.assert_allclose(np.sort(every.iloc[:, 0]), (np.arange(24) + 0.5) / 24, atol=1e-4)


def test_processes_share_a_folder_and_their_parts_are_one_data_set(
    bundle: Path, nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        assert f"part {rank + 1} of 3: " in call(bundle, nights, tmp_path, *SOME)
    monkeypatch.delenv("WORLD_SIZE")
    assert "part 3 of 3: " in call(bundle, nights, tmp_path, *SOME, "--part", "3/3")
    call(bundle, nights, tmp_path / "alone", *SOME)
    for name in ("detections.csv", "scores.csv", "recordings.csv", "failed.csv"):
        files = sorted(tmp_path.glob(f"part-*-of-0003/{name}"))
        parts = pd.concat([read(file) for file in files])
        keys = [key for key in ("path", "start_seconds", "species") if key in parts]
        assert len(files) == 3
        together = parts.sort_values(keys, ignore_index=True)
        alone = read(tmp_path / "alone" / name).sort_values(keys, ignore_index=True)
        pd.testing.assert_frame_equal(together.astype(object), alone.astype(object))
    assert "another number of processes" in refusal(bundle, nights, tmp_path)


def test_the_share_of_a_process_is_asked_of_its_launcher():
    of = Part.of_process
    assert of({}) == Part(1, 1)
    assert of({"RANK": "2", "WORLD_SIZE": "5"}) == Part(3, 5)
    batch = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}  # a batch script, outside of any step
    assert of(batch) == Part(1, 1)
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
    assert of(step) == Part(4, 4)
    numbers = {"COUNT": "5", "MIN": "10", "MAX": "50", "STEP": "10", "ID": "30"}
    array = {f"SLURM_ARRAY_TASK_{name}": value for name, value in numbers.items()}
    assert of(array) == Part(3, 5)
    assert of(step | array) == Part(2 * 4 + 4, 20)
    assert Part.of("3/8") == Part(3, 8)


def test_a_share_that_nobody_would_hear_is_refused():
    gaps = {"COUNT": "3", "MIN": "1", "MAX": "7", "STEP": "1", "ID": "3"}  # --array=1,3,7
    with pytest.raises(ValueError, match="3 jobs from 1 to 7 has gaps"):
        Part.of_process({f"SLURM_ARRAY_TASK_{name}": value for name, value in gaps.items()})
    for text, told in (("9/8", "no such part"), ("0/8", "no such part"), ("3-8", "as 3/8")):
        with pytest.raises(ValueError, match=told):
            Part.of(text)
    with pytest.raises(ValueError, match="no such part"):
        Part.of_process({"RANK": "5", "WORLD_SIZE": "3"})


def test_shares_are_whole_and_stay_when_recordings_come():
    paths = [f"{number}\udcff.wav" for number in range(1003)]
    shares = [set(Part(number, 4).deal(paths)) for number in range(1, 5)]
    assert set().union(*shares) == set(paths) and sum(map(len, shares)) == len(paths)
    assert min(map(len, shares)) > 200
    for number, share in enumerate(shares, 1):
        assert share <= set(Part(number, 4).deal(["0000.wav", *paths, "new.wav"]))


# ---------------------------------------------------------------- wrong input


def edited(bundle: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(bundle, to)
    manifest = json.loads((to / "bundle.json").read_text())
    (to / "bundle.json").write_text(json.dumps(manifest | changes))
    return to


def test_wrong_input_is_one_line_with_its_remedy(bundle: Path, demo: Path, tmp_path: Path):
    folder, out = demo / "test_soundscapes", tmp_path / "o"
    other = edited(bundle, tmp_path / "other", format=99)
    torn = edited(bundle, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    long = edited(bundle, tmp_path / "long", segment_seconds=7.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    unknown = tmp_path / "species.txt"
    unknown.write_text("Turdus merula\n")
    for options, expected in (
        ((empty, folder), "no bundle here"),
        ((other, folder), "bundle format 99"),
        ((torn, folder), "the weights do not load"),
        ((bundle, tmp_path / "absent"), "no such file or folder"),
        ((bundle, empty), "no recordings here"),
        ((bundle, folder, "--bundle", long), "the bundles hear 5, 7 s: say how long a row is"),
        ((bundle, folder, "--window", "6"), "rows of 6 s of which 5 s are heard"),
        ((bundle, folder, "--pool", "max"), "hears no frames"),
        ((bundle, folder, "--pool", "maxi"), "did you mean 'max'?"),
        ((bundle, folder, "--step", "0"), "--step 0: it must be above 0"),
        ((bundle, folder, "--smoothing", "1"), "--smoothing 1: it lies in [0, 1)"),
        ((bundle, folder, "--threshold", "50"), "--threshold 50: it lies between 0 and 1"),
        ((bundle, folder, "--timezone", "Europe/Berln"), "did you mean 'Europe/Berlin'?"),
        ((bundle, folder, "--species", unknown), "none of its 1 lines is a species"),
        ((bundle, folder, "--format", "ravn"), "did you mean 'raven'?"),
        ((bundle, folder, "--engine", "onix"), "did you mean 'onnx'?"),
        ((bundle, folder, "--part", "9/8"), "part 9 of 8: there is no such part"),
    ):
        assert expected in refusal(options[0], options[1], out, *map(str, options[2:]))
    assert not (out / "detections.csv").exists()


def test_a_bundle_whose_weights_are_no_numbers_is_refused_and_named(
    bundle: Path, demo: Path, tmp_path: Path
):
    broken = edited(bundle, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("weight"))
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, broken / "model.safetensors")
    command = ["predict", "--bundle", str(broken), str(demo / "test_soundscapes")]
    done = runner.invoke(app, [*command, "--out", str(tmp_path / "o")])
    assert done.exit_code == 2 and f"tensors are not finite: {name}" in done.stderr
    assert not (tmp_path / "o" / "detections.csv").exists()


def test_samples_beyond_any_sense_cost_no_detection_and_are_named(
    bundle: Path, demo: Path, tmp_path: Path
):
    folder = tmp_path / "in"
    folder.mkdir()
    wave, rate = soundfile.read(next((demo / "test_soundscapes").iterdir()), dtype="float32")
    wave[1000] = 0
    soundfile.write(folder / "zero.wav", wave, rate, subtype="FLOAT")
    wave[1000] = 1e20
    soundfile.write(folder / "absurd.wav", wave, rate, subtype="FLOAT")
    soundfile.write(folder / "none.wav", wave * np.float32(1e20), rate, subtype="FLOAT")
    said = call(bundle, folder, tmp_path / "o", "--scores", "csv")
    failed = read(tmp_path / "o" / "failed.csv").set_index("path")["error"]
    assert "beyond 2e+09 times full scale: it is no sound" in failed["none.wav"]
    assert "1 of 2 recordings are odd, first absurd.wav: absurd-level: 1 of" in said
    heard = read(tmp_path / "o" / "recordings.csv").set_index("path")
    assert heard["warning"]["zero.wav"] == "" and "absurd-level" in heard["warning"]["absurd.wav"]
    every = read(tmp_path / "o" / "scores.csv").set_index("path").iloc[:, 4:]
    np.testing.assert_allclose(every.loc["absurd.wav"], every.loc["zero.wav"], atol=1e-6)


def test_overlapping_recordings_and_copies_are_said_and_count_once(
    bundle: Path, demo: Path, tmp_path: Path
):
    wave, rate = soundfile.read(next((demo / "test_soundscapes").iterdir()), dtype="float32")
    folder, out = tmp_path / "in", tmp_path / "out"
    for name, start in (("S_20240501_050000.wav", 0), ("S_20240501_050015.wav", 15)):
        (folder / "site").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "site" / name, wave[start * rate :][: 20 * rate], rate)
    first = folder / "site" / "S_20240501_050000.wav"
    for copy in (folder / "backup" / first.name, folder / "site" / f"Copy of {first.name}"):
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(first, copy)
    said = call(bundle, folder, out)
    assert "2 recordings have the bytes of others, first backup/S_20240501_050000.wav of" in said
    assert "2 recordings overlap others of their deployment in time, by 5 s in all" in said
    assert (out / "effort.csv").read_text().splitlines()[1:] == ["2024-05-01,5,site,35"]
    warning = read(out / "recordings.csv").set_index("path")["warning"]
    assert warning["backup/S_20240501_050000.wav"] == "copy of site/S_20240501_050000.wav"
    assert warning["site/S_20240501_050015.wav"] == (
        "overlaps in time with site/S_20240501_050000.wav"
    )
    counts = json.loads((out / "run.json").read_text())["counts"]
    assert (counts["copies"], counts["overlapping"]) == (2, 2)


def test_a_list_of_species_leaves_the_others_out(
    bundle: Path, scores: Path, demo: Path, tmp_path: Path
):
    codes = list(read(scores / "scores.csv").columns[5:])
    names = json.loads((bundle / "bundle.json").read_text())["labels"]["names"]
    (tmp_path / "list.txt").write_text(f"# mine\n{names[3]}\n{codes[1]}\nTurdus merula\n")
    out = tmp_path / "out"
    shutil.copytree(scores, out)
    wanted = ("--species", str(tmp_path / "list.txt"), "--scores", "csv", "--threshold", "0.001")
    said = call(bundle, demo / "test_soundscapes", out, *wanted)
    assert "1 of 3 species are not in the bundle: Turdus merula" in said
    kept = [codes[1], codes[3]]
    assert list(read(out / "scores.csv").columns[5:]) == kept
    assert set(read(out / "detections.csv")["species"]) <= set(kept)
    assert len(pd.read_csv(out / "detections.csv"))
