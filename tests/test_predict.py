"""`birdmix predict`: each recording is in exactly one table, also after kills."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.inference.input_files import find_input_files
from birdmix.inference.journal import FileState, Journal
from birdmix.inference.process_share import ProcessShare
from birdmix.inference.recording_predictions import PredictionLayout, RecordingPredictions
from birdmix.labels import Labels
from birdmix.ownership import LIST
from birdmix.recordings.pseudo_labels import read_pseudo_labels
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


def predict_error(bundle: Path, folder: Path, out: Path, *options: str) -> str:
    done = runner.invoke(
        app, ["predict", "--bundle", str(bundle), str(folder), "--out", str(out), *options]
    )
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output and done.stderr.strip().count("\n") == 0
    return done.stderr


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, **TEXT)


def tables(out: Path) -> dict[str, bytes]:
    """Return all files of a user but those that hold times."""
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and file.name not in ("run.json", "journal.sqlite", LIST)
    }


@pytest.fixture(scope="module")
def predicted(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of the demo's soundscapes, with the bundle's own thresholds."""
    out = tmp_path_factory.mktemp("predicted")
    formats = [f"--format={name}" for name in ("raven", "audacity", "birdnet", "kaleidoscope")]
    call(bundle, demo / "test_soundscapes", out, "--probabilities", "csv", *formats)
    return out


def test_a_folder_is_predicted_window_by_window(predicted: Path, demo: Path):
    every = read(predicted / "probabilities.csv")
    assert len(every) == 2 * 12 and read(predicted / "failed.csv").empty
    first = every[every["path"] == every["path"][0]]
    assert first["start_seconds"].tolist() == [5 * w for w in range(12)]
    assert first["end_seconds"].tolist() == [5 * w + 5 for w in range(12)]
    codes = sorted(pd.read_csv(demo / "taxonomy.csv", dtype=str).iloc[:, 0])
    assert list(every.columns[5:]) == codes
    assert every[codes].gt(0).all(axis=None) and every[codes].lt(1).all(axis=None)


def test_detections_are_the_windows_that_reach_the_bundles_thresholds(
    predicted: Path, bundle: Path
):
    manifest = json.loads((bundle / "bundle.json").read_text())
    thresholds = dict(zip(manifest["labels"]["codes"], manifest["thresholds"], strict=True))
    every, found = read(predicted / "probabilities.csv"), read(predicted / "detections.csv")
    for (path, code), group in found.groupby(["path", "species"]):
        rows = every[every["path"] == path]
        reached = rows[rows[code] >= thresholds[code] - 1e-6]
        assert (group["end_seconds"] - group["start_seconds"]).sum() == 5 * len(reached)
        assert group["confidence"].max() == pytest.approx(reached[code].max(), abs=1e-5)
    named = (every[list(thresholds)] >= [t or 2 for t in thresholds.values()]).any(axis=None)
    assert named == bool(len(found))


def test_probabilities_can_be_soft_labels_of_another_run(predicted: Path, demo: Path, bundle: Path):
    labels = Labels(tuple(json.loads((bundle / "bundle.json").read_text())["labels"]["codes"]))
    settings = PseudoSettings(str(predicted / "probabilities.csv"), str(demo / "test_soundscapes"))
    recordings = read_pseudo_labels(settings, labels, follow_links=False)
    assert len(recordings) == 24 and recordings.targets().max() <= 0.75


def test_run_json_records_inputs_options_and_counts(predicted: Path, demo: Path):
    run = json.loads((predicted / "run.json").read_text())
    assert run["folder"] == str(demo / "test_soundscapes")
    assert run["counts"]["recordings"] == run["counts"]["predicted_now"] == 2
    assert run["predicted_with"]["window"] == "5.0" and len(run["predicted_with"]["bundle 1"]) == 64
    assert run["options"]["probabilities"] == "csv" and run["hours_predicted_now"] == round(
        2 / 60, 4
    )


def test_any_sample_rate_channels_and_depth_of_folders_are_predicted(bundle: Path, tmp_path: Path):
    folder = tmp_path / "in"
    (folder / "a" / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    stereo = folder / "a/b/SITE_20240501_233000.wav"
    soundfile.write(stereo, rng.normal(0, 0.1, (48_000 * 7, 2)), 48_000)
    soundfile.write(folder / "short.flac", rng.normal(0, 0.1, 800), 8000)
    shutil.copy(folder / "short.flac", folder / "._short.flac")
    call(bundle, folder, tmp_path / "out", "--probabilities", "csv", "--threshold", "1e-6")
    every = read(tmp_path / "out" / "probabilities.csv")
    assert every["path"].tolist() == ["a/b/SITE_20240501_233000.wav"] * 2 + ["short.flac"]
    assert every["end_seconds"].tolist() == [5, 7, 0.1]
    assert every["datetime"].tolist() == ["2024-05-01T23:30:00", "2024-05-01T23:30:02", ""]
    assert every["deployment"].tolist() == ["a/b", "a/b", "in"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["undated"] == 1
    recordings = read(tmp_path / "out" / "recordings.csv")
    assert recordings["seconds"].tolist() == [7, 0.1] and recordings["windows"].tolist() == [2, 1]
    assert (recordings["detections"] == len(every.columns) - 5).all()  # each species, merged


def test_single_files_are_predicted_as_in_their_folder(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    files = sorted((demo / "test_soundscapes").iterdir())
    done = runner.invoke(
        app,
        ["predict", *map(str, files), "--bundle", str(bundle), "--out", str(tmp_path / "o")],
    )
    assert done.exit_code == 0, done.output
    for name in ("detections.csv", "recordings.csv", "effort.csv"):
        assert (tmp_path / "o" / name).read_bytes() == (predicted / name).read_bytes()
    call(bundle, files[1], tmp_path / "one")
    assert read(tmp_path / "one" / "recordings.csv")["path"].tolist() == [files[1].name]
    assert json.loads((tmp_path / "one" / "run.json").read_text())["folder"] == str(files[1].parent)
    assert "no such file or folder" in predict_error(
        bundle, tmp_path / "absent.wav", tmp_path / "x"
    )


def test_paths_of_files_and_folders_are_relative_to_their_common_folder(tmp_path: Path):
    for name in ("a/x.wav", "a/y.m4a", "b/c/z.wav", "b/c/w.wav", "b/v.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"?")
    folder, recordings, unsupported = find_input_files(
        [tmp_path / "a", tmp_path / "b/c/z.wav", tmp_path / "b/v.m4a", tmp_path / "a/x.wav"]
    )
    assert folder == tmp_path and recordings == ["a/x.wav", "b/c/z.wav", "b/v.m4a"]
    assert [path for path, _ in unsupported] == [
        "a/y.m4a"
    ]  # a file that is given itself is a recording


def test_sound_in_unsupported_formats_is_counted_and_listed(bundle: Path, tmp_path: Path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.wav", "b.wave", "$RECYCLE.BIN/a.wav"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(folder / name, np.full(8000, 0.1), 8000, format="WAV")
    (folder / "c.m4a").write_bytes(b"?")
    (folder / "d.zip").write_bytes(b"?")
    output = call(bundle, folder, out)
    assert "2 of 2 recordings predicted" in output
    assert "warning: 2 audio files are not read (1 m4a, 1 zip), first c.m4a: m4a is not" in output
    assert read(out / "recordings.csv")["path"].tolist() == ["a.wav", "b.wave"]
    assert read(out / "failed.csv")["path"].tolist() == ["c.m4a", "d.zip"]
    assert json.loads((out / "run.json").read_text())["counts"]["unsupported"] == 2
    (tmp_path / "none").mkdir()
    (tmp_path / "none/c.m4a").write_bytes(b"?")
    output = predict_error(bundle, tmp_path / "none", out)
    assert "no recordings here; 1 audio file is not read (1 m4a), first c.m4a" in output


def test_a_clock_that_was_not_set_is_a_warning_and_gives_no_datetime(bundle: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(tmp_path / "in" / "19700101_000012.WAV", noise, 8000)
    call(bundle, tmp_path / "in", tmp_path / "out")
    recordings = read(tmp_path / "out" / "recordings.csv")
    assert recordings["warning"].tolist() == ["the clock was not set: 1970-01-01T00:00:12"]
    assert recordings["datetime"].tolist() == [""]


def test_every_odd_file_is_in_exactly_one_table(bundle: Path, real_audio: Path, tmp_path: Path):
    odd = real_audio / "odd"
    call(bundle, odd, tmp_path)
    recordings, failed = read(tmp_path / "recordings.csv"), read(tmp_path / "failed.csv")
    everything = {p.relative_to(odd).as_posix() for p in odd.rglob("*") if p.is_file()}
    assert sorted([*recordings["path"], *failed["path"]]) == sorted(everything)
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
    warning = recordings.set_index("path")["warning"]
    assert "silent" in warning["tinytag/24bit_pcm.wav"]
    assert "header states 47232 samples, 46080 decoded" in warning["tinytag/mp3_audio.wav"]
    assert "clipped" in warning["hound/waveformatextensible-ieeefloat-44100Hz-mono.wav"]


# ---------------------------------------------------------------- resuming


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


MAIN = "from birdmix.cli.main import main; main()"
OPTIONS = ("--probabilities", "csv", "--format", "raven", "--threshold", "0.01")


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed_it_writes_the_same_tables(
    bundle: Path, nights: Path, tmp_path: Path, kills: int
):
    call(bundle, nights, tmp_path / "whole", *OPTIONS)
    out = tmp_path / "killed"
    command = [sys.executable, "-c", MAIN, "predict", "--bundle", str(bundle)]
    command += [str(nights), "--out", str(out), *OPTIONS]
    num_before = 0
    for kill in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        target, deadline = 2 + 5 * kill, time.monotonic() + 200
        while num_entries(out) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert num_entries(out) >= max(num_before, target)  # nothing is lost
        num_before = num_entries(out)
    output = call(bundle, nights, out, *OPTIONS)
    assert f"{num_before} of 41 recordings were predicted before" in output
    assert tables(out) == tables(tmp_path / "whole")


def num_entries(out: Path) -> int:
    """Return the number of recordings in a journal, from a copy, as its writer locks it."""
    copy = out.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(out, copy)
        with sqlite3.connect(copy / "journal.sqlite") as database:
            return database.execute("SELECT COUNT(*) FROM recordings").fetchone()[0]
    except (OSError, sqlite3.Error):
        return 0


def test_only_new_and_changed_recordings_are_predicted_again(
    bundle: Path, nights: Path, tmp_path: Path
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    files = sorted(nights.glob("*.wav"))
    for file in files[:4]:
        shutil.copy(file, folder)
    assert "4 of 4 recordings predicted" in call(bundle, folder, out)
    shutil.copy(files[4], folder)
    shutil.copy(files[5], folder / files[0].name)
    (folder / files[1].name).unlink()
    output = call(bundle, folder, out)
    assert (
        "2 of 4 recordings were predicted before" in output
        and "2 of 2 recordings predicted" in output
    )
    call(bundle, folder, tmp_path / "new")
    assert tables(out) == tables(tmp_path / "new")


def test_threshold_and_smoothing_change_without_predicting_again(
    bundle: Path, predicted: Path, demo: Path
):
    folder, out = demo / "test_soundscapes", predicted.with_name("other")
    shutil.copytree(predicted, out)
    output = call(bundle, folder, out, "--threshold", "0.01", "--smoothing", "0.5")
    assert "2 of 2 recordings were predicted before" in output and "times real time" not in output
    assert "everything again" not in output


def test_another_fingerprint_starts_an_empty_journal_and_is_reported(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    folder, out = demo / "test_soundscapes", tmp_path / "out"
    shutil.copytree(predicted, out)
    output = call(bundle, folder, out, "--hop", "2.5", "--probabilities", "csv")
    assert "predicting everything again, since predictions depend on hop (was 5.0)" in output
    assert len(read(out / "probabilities.csv")) == 2 * 23
    shutil.copy(out / "journal-before.sqlite", out / "journal.sqlite")  # nothing is lost
    assert "2 of 2 recordings were predicted before" in call(bundle, folder, out)
    other = copy_with_manifest(bundle, tmp_path / "other", softmax=True)
    assert "depend on bundle 1 (was" in call(other, folder, out)


def test_options_that_do_not_change_logits_keep_the_journal(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    out, moved = tmp_path / "out", tmp_path / "moved"
    shutil.copytree(predicted, out)
    shutil.copytree(demo / "test_soundscapes", moved)
    other = copy_with_manifest(
        bundle, tmp_path / "other", thresholds=[0.3] * 12, metrics={"made": 1.0}
    )
    for call_of in (
        (bundle, moved),
        (other, moved),
        (bundle, moved, "--power", "3", "--combine", "power"),
    ):
        output = call(call_of[0], call_of[1], out, *call_of[2:])
        assert (
            "2 of 2 recordings were predicted before" in output and "everything again" not in output
        )


def test_a_refused_command_changes_no_table(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    before = tables(out)
    for wrong in (
        ("--frame-pooling", "mean"),
        ("--bundle", str(bundle), "--combine", "rank"),
        ("--hop", "2.5", "--timezone", "Europe/Berln"),
        ("--hop", "2.5", "--species", "absent"),
    ):
        predict_error(bundle, demo / "test_soundscapes", out, *wrong)
    assert tables(out) == before
    assert "2 of 2 recordings were predicted before" in call(bundle, demo / "test_soundscapes", out)


def test_absent_recordings_are_reported_and_used_again_when_they_return(
    bundle: Path, nights: Path, tmp_path: Path
):
    folder, card = tmp_path / "in", tmp_path / "card"
    folder.mkdir()
    card.mkdir()
    for number, file in enumerate(sorted(nights.glob("S_*.wav"))[:4]):
        shutil.copy2(file, folder if number % 2 else card)
    (folder / "card").symlink_to(card)
    call(bundle, folder, tmp_path / "out", *OPTIONS)
    whole = tables(tmp_path / "out")
    (folder / "card").unlink()
    output = call(bundle, folder, tmp_path / "out", *OPTIONS)
    assert "2 recordings predicted before are no longer here, and not in the tables" in output
    assert len(read(tmp_path / "out" / "recordings.csv")) == 2
    (folder / "card").symlink_to(card)
    assert "4 of 4 recordings were predicted before" in call(
        bundle, folder, tmp_path / "out", *OPTIONS
    )
    assert tables(tmp_path / "out") == whole


def test_formats_written_before_are_updated(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    call(bundle, demo / "test_soundscapes", out, "--threshold", "0.999")
    assert read(out / "detections.csv").empty and not list((out / "raven").rglob("*.txt"))
    assert len(read(out / "birdnet" / "birdnet.csv")) == 0


def test_exit_code_is_1_if_nothing_could_be_predicted(bundle: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.wav").write_bytes(b"no sound")
    done = runner.invoke(
        app,
        ["predict", "--bundle", str(bundle), str(tmp_path / "in"), "--out", str(tmp_path / "out")],
    )
    assert done.exit_code == 1 and "broken.wav: cannot be opened as audio" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_one_line(
    bundle: Path, nights: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
):
    add = Journal.add

    def interrupt(self: Journal, *entry: Any) -> None:
        add(self, *entry)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Journal, "add", interrupt)
    done = runner.invoke(
        app, ["predict", "--bundle", str(bundle), str(nights), "--out", str(tmp_path)]
    )
    assert done.exit_code == 128 + number
    assert "interrupted; predictions so far are kept, and the same command continues" in done.stderr
    monkeypatch.undo()
    assert "1 of 41 recordings were predicted before" in call(bundle, nights, tmp_path)


def test_a_damaged_journal_is_reported_and_replaced(predicted: Path, bundle: Path, demo: Path):
    out = predicted.with_name("damaged")
    shutil.copytree(predicted, out)
    whole = (out / "journal.sqlite").read_bytes()
    damages = (b"no journal" * 1000, whole[:8192] + bytes(len(whole) - 8192))
    for aside, damage in zip(("journal-damaged", "journal-damaged-2"), damages, strict=True):
        (out / "journal.sqlite").write_bytes(damage)
        output = call(bundle, demo / "test_soundscapes", out, "--probabilities", "csv")
        assert (
            "journal.sqlite was damaged; starting again" in output
            and "2 of 2 recordings predicted" in output
        )
        assert (out / f"{aside}.sqlite").read_bytes() == damage
    assert (out / "probabilities.csv").read_bytes() == (
        predicted / "probabilities.csv"
    ).read_bytes()


#: Changes of the entry of a recording, in SQL.
DAMAGES = {
    "logits of another type": "UPDATE logits SET logits = 'text' WHERE recording = 1",
    "logits of another length": "UPDATE logits SET logits = x'00' WHERE recording = 1",
    "logits incomplete": "UPDATE logits SET logits = substr(logits, 1, 24) WHERE recording = 1",
    "no logits": "DELETE FROM logits WHERE recording = 1",
    "NaN": "UPDATE logits SET logits = CAST(x'0000c07f' || substr(logits, 5) AS BLOB) "
    "WHERE recording = 1",
    "infinite": "UPDATE logits SET logits = CAST(x'0000807f' || substr(logits, 5) AS BLOB) "
    "WHERE recording = 1",
    "one bit": "UPDATE logits SET logits = CAST(x'0100803f' || substr(logits, 5) AS BLOB) "
    "WHERE recording = 1",
    "part of another number": "UPDATE logits SET chunk = 7 WHERE recording = 1",
    "part without a number": "UPDATE logits SET chunk = NULL WHERE recording = 1",
    "part without a recording": "UPDATE logits SET recording = NULL WHERE recording = 1",
    "an empty part more": "INSERT INTO logits VALUES (1, 1, x'')",
    "another number": "UPDATE recordings SET id = 9 WHERE id = 1",
    "path": "UPDATE recordings SET path = CAST('z' AS BLOB) WHERE id = 1",
    "path of another type": "UPDATE recordings SET path = 'a' WHERE id = 1",
    "size": "UPDATE recordings SET size = 8 WHERE id = 1",
    "size of another type": "UPDATE recordings SET size = 'big' WHERE id = 1",
    "time of change": "UPDATE recordings SET modified = 7 WHERE id = 1",
    "seconds": "UPDATE recordings SET seconds = 4.5 WHERE id = 1",
    "seconds below 0": "UPDATE recordings SET seconds = -1 WHERE id = 1",
    "seconds without end": "UPDATE recordings SET seconds = 9e999 WHERE id = 1",
    "datetime": "UPDATE recordings SET recorded_at = '2024-05-01' WHERE id = 1",
    "datetime invalid": "UPDATE recordings SET recorded_at = 'May' WHERE id = 1",
    "no UTF-8": "UPDATE recordings SET recorded_at = CAST(x'ff' AS TEXT) WHERE id = 1",
    "warning": "UPDATE recordings SET warning = 'odd' WHERE id = 1",
    "warning of another type": "UPDATE recordings SET warning = x'00' WHERE id = 1",
    "number of windows": "UPDATE recordings SET windows = 4 WHERE id = 1",
    "checksum of logits": "UPDATE recordings SET logits_checksum = x'00' WHERE id = 1",
    "checksum": "UPDATE recordings SET checksum = x'00' WHERE id = 1",
    "checksum of another type": "UPDATE recordings SET checksum = 'text' WHERE id = 1",
}

THREE_CLASSES = PredictionLayout(Labels(("a", "b", "c")), window=1.0, hop=1.0)


def make_predictions(path: str, logits: np.ndarray, **fields: Any) -> RecordingPredictions:
    fields = {"seconds": 5.0, "recorded_at": None, "warning": ""} | fields
    return THREE_CLASSES.build(path, logits, **fields)


@pytest.mark.parametrize("name", DAMAGES)
def test_an_entry_with_a_damaged_cell_is_dropped(name: str, tmp_path: Path):
    file = tmp_path / "j"
    first, second = (make_predictions(path, np.ones((5, 3), np.float32)) for path in "ab")
    with Journal(file, {"a": "1"}, THREE_CLASSES) as journal:
        for each in (first, second):
            journal.add(each, FileState(7, 8))
    with closing(sqlite3.connect(file)) as database:
        database.execute(DAMAGES[name])
        database.commit()
    with Journal(file, {"a": "1"}, THREE_CLASSES) as journal:
        if journal.backup is None:
            assert journal.dropped == ["z" if name == "path" else "a"]
            assert [entry.path for entry in journal.entries()] == ["b"]
        else:  # newer versions of SQLite check types themselves
            assert journal.backup == tmp_path / "j-damaged" and not list(journal.entries())
        journal.add(first, FileState(7, 8))
    with Journal(file, {"a": "1"}, THREE_CLASSES) as journal:
        assert not journal.dropped and "a" in [entry.path for entry in journal.entries()]


def test_logits_of_a_class_that_a_model_lacks_stay_nan(tmp_path: Path):
    logits = np.array([[1, np.nan, 2], [3, np.nan, 4]], np.float32)
    with Journal(tmp_path / "j", {}, THREE_CLASSES) as journal:
        journal.add(make_predictions("a", logits), FileState(7, 8))
    with Journal(tmp_path / "j", {}, THREE_CLASSES) as journal:
        (entry,) = journal.entries()
        np.testing.assert_array_equal(journal.read(entry).logits, logits)


def test_a_journal_of_an_earlier_birdmix_is_backed_up(tmp_path: Path):
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        database.execute("INSERT INTO about VALUES ('birdmix', '0.1')")
        database.execute("CREATE TABLE recordings (path BLOB)")
        database.execute("INSERT INTO recordings VALUES ('a.wav')")
        database.execute("CREATE TABLE logits (recording INTEGER)")
        database.commit()
    with Journal(file, {"birdmix": "0.2"}, THREE_CLASSES) as journal:
        assert journal.changed == {"birdmix": "0.1"}
        assert journal.backup == tmp_path / "journal-before.sqlite"
        assert not list(journal.entries())


def test_another_database_in_place_of_the_journal_is_backed_up(tmp_path: Path):
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE logits (mine TEXT)")
        database.execute("INSERT INTO logits VALUES ('years of work')")
        database.commit()
    with Journal(file, {"a": "1"}, THREE_CLASSES) as journal:
        assert journal.backup == tmp_path / "journal-damaged.sqlite"
    with closing(sqlite3.connect(journal.backup)) as database:
        assert database.execute("SELECT mine FROM logits").fetchall() == [("years of work",)]


def test_a_damaged_entry_is_reported_and_predicted_again(bundle: Path, predicted: Path, demo: Path):
    out = predicted.with_name("wrong")
    shutil.copytree(predicted, out)
    with closing(sqlite3.connect(out / "journal.sqlite")) as database:
        database.execute("UPDATE logits SET logits = substr(logits, 1, 48) WHERE recording = 1")
        database.commit()
    output = call(bundle, demo / "test_soundscapes", out, "--probabilities", "csv")
    assert "1 recordings have damaged entries and are predicted again: " in output
    assert "1 of 1 recordings predicted" in output
    assert tables(out) == tables(predicted)


@pytest.mark.parametrize("value", ["nonsense f32", "", "onnx"])
def test_an_unknown_engine_in_a_journal_is_ignored(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path, value: str
):
    shutil.copytree(predicted, tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / "journal.sqlite")) as database:
        database.execute("UPDATE about SET value = ? WHERE key = 'engine 1'", (value,))
        database.commit()
    folder = demo / "test_soundscapes"
    if value == "onnx":  # a prediction is continued with its engine
        assert "is not exported to it" in predict_error(bundle, folder, tmp_path / "out")
    else:
        assert "depend on engine 1 (was " in call(bundle, folder, tmp_path / "out")


def test_a_second_process_on_one_journal_is_refused(tmp_path: Path):
    taken = pytest.raises(ValueError, match="another birdmix is writing into this")
    with Journal(tmp_path / "j", {"a": "1"}, THREE_CLASSES), taken:
        Journal(tmp_path / "j", {"a": "1"}, THREE_CLASSES)
    with Journal(tmp_path / "j", {"a": "1"}, THREE_CLASSES) as journal:
        assert not journal.changed


def test_a_journal_returns_predictions_unchanged(tmp_path: Path):
    rng = np.random.default_rng(0)
    berlin = timezone(timedelta(hours=2))
    added = [
        make_predictions(
            path,
            rng.normal(size=(rows, 3)).astype(np.float32),
            seconds=rows - 0.25,
            recorded_at=recorded_at,
            warning="odd",
        )
        for path, recorded_at, rows in (
            ("b\udcff.wav", None, 1),
            ("a/é.wav", datetime(2024, 5, 1, 5, tzinfo=berlin), 9000),
        )
    ]
    with Journal(tmp_path / "j", {}, THREE_CLASSES) as journal:
        for each in [added[0], *added]:  # one twice
            journal.add(each, FileState(7, 2**62))
    with Journal(tmp_path / "j", {}, THREE_CLASSES) as journal:
        assert not journal.dropped
        entries = list(journal.entries())
        found = [journal.read(entry) for entry in entries]
    assert [each.path for each in found] == ["a/é.wav", "b\udcff.wav"]
    for entry, each, expected in zip(entries, found, added[::-1], strict=True):
        for name in ("start_seconds", "end_seconds", "logits"):
            np.testing.assert_array_equal(getattr(each, name), getattr(expected, name))
        for name in ("path", "labels", "seconds", "recorded_at", "warning"):
            assert getattr(each, name) == getattr(expected, name)
        assert entry.file_state == (7, 2**62) and entry.num_windows == len(expected.logits)
        assert str(entry.recorded_at) == str(expected.recorded_at)


def test_models_to_be_ranked_stay_side_by_side_in_a_journal(tmp_path: Path):
    layout = PredictionLayout(Labels(("a", "b")), window=1.0, hop=1.0, num_ranked=3)
    logits = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    fields = {"seconds": 4.0, "recorded_at": None, "warning": ""}
    with Journal(tmp_path / "j", {}, layout) as journal:
        journal.add(layout.build("a", logits, **fields), FileState(7, 8))
        (entry,) = journal.entries()
        np.testing.assert_array_equal(journal.read(entry).logits, logits)
        assert entry.num_windows == 4


def test_equal_logits_have_equal_checksums(tmp_path: Path):
    ones = np.ones((5, 3), np.float32)
    with Journal(tmp_path / "j", {}, THREE_CLASSES) as journal:
        for path, logits in {"a": ones, "b": ones, "c": ones + 1, "d": ones[:4]}.items():
            journal.add(make_predictions(path, logits), FileState(7, 8))
        checksums = [entry.logits_checksum for entry in journal.entries()]
    assert checksums[0] == checksums[1] and len(set(checksums)) == 3


def test_a_full_disk_ends_with_one_line_and_can_be_resumed(
    bundle: Path, nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    add = Journal.add

    def raise_disk_full(self: Journal, *entry: Any) -> None:
        if len(list(self.entries())) == 20:
            self.database.execute("PRAGMA max_page_count = 1")
        add(self, *entry)

    monkeypatch.setattr(Journal, "add", raise_disk_full)
    dense = (*OPTIONS, "--hop", "0.1")
    output = predict_error(bundle, nights, tmp_path / "out", *dense)
    assert (
        "database or disk is full" in output
        and "free some space, then run the same command" in output
    )
    assert not (tmp_path / "out" / "detections.csv").exists()
    monkeypatch.undo()
    assert "were predicted before" in call(bundle, nights, tmp_path / "out", *dense)


# ---------------------------------------------------------------- several bundles, processes


def test_a_bundle_given_twice_predicts_as_once(bundle: Path, predicted: Path, demo: Path):
    out = predicted.with_name("twice")
    call(bundle, demo / "test_soundscapes", out, "--bundle", str(bundle), "--probabilities", "csv")
    alone, twice = read(predicted / "probabilities.csv"), read(out / "probabilities.csv")
    pd.testing.assert_frame_equal(alone, twice, atol=1e-5)


def test_ranks_need_a_threshold_and_lie_between_0_and_1(bundle: Path, demo: Path, tmp_path: Path):
    folder = demo / "test_soundscapes"
    both = ("--bundle", str(bundle), "--combine", "rank")
    assert "thresholds do not apply to ranks; set one" in predict_error(
        bundle, folder, tmp_path, *both
    )
    call(bundle, folder, tmp_path, *both, "--threshold", "0.9", "--probabilities", "csv")
    every = read(tmp_path / "probabilities.csv").iloc[:, 5:]
    np.testing.assert_allclose(np.sort(every.iloc[:, 0]), (np.arange(24) + 0.5) / 24, atol=1e-4)


def test_parts_of_several_processes_together_equal_one_prediction(
    bundle: Path, nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        assert f"part {rank + 1} of 3: " in call(bundle, nights, tmp_path, *OPTIONS)
    monkeypatch.delenv("WORLD_SIZE")
    assert "part 3 of 3: " in call(bundle, nights, tmp_path, *OPTIONS, "--part", "3/3")
    call(bundle, nights, tmp_path / "alone", *OPTIONS)
    for name in ("detections.csv", "probabilities.csv", "recordings.csv", "failed.csv"):
        files = sorted(tmp_path.glob(f"part-*-of-0003/{name}"))
        parts = pd.concat([read(file) for file in files])
        keys = [key for key in ("path", "start_seconds", "species") if key in parts]
        assert len(files) == 3
        together = parts.sort_values(keys, ignore_index=True)
        alone = read(tmp_path / "alone" / name).sort_values(keys, ignore_index=True)
        pd.testing.assert_frame_equal(together.astype(object), alone.astype(object))
    assert "another number of processes" in predict_error(bundle, nights, tmp_path)


def test_the_part_of_a_process_is_read_from_its_launcher():
    of = ProcessShare.from_environment
    assert of({}) == ProcessShare(1, 1)
    assert of({"RANK": "2", "WORLD_SIZE": "5"}) == ProcessShare(3, 5)
    batch = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}  # a batch script, outside of any step
    assert of(batch) == ProcessShare(1, 1)
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
    assert of(step) == ProcessShare(4, 4)
    numbers = {"COUNT": "5", "MIN": "10", "MAX": "50", "STEP": "10", "ID": "30"}
    array = {f"SLURM_ARRAY_TASK_{name}": value for name, value in numbers.items()}
    assert of(array) == ProcessShare(3, 5)
    assert of(step | array) == ProcessShare(2 * 4 + 4, 20)
    assert ProcessShare.parse("3/8") == ProcessShare(3, 8)


def test_parts_that_would_leave_out_recordings_are_refused():
    gaps = {"COUNT": "3", "MIN": "1", "MAX": "7", "STEP": "1", "ID": "3"}  # --array=1,3,7
    with pytest.raises(ValueError, match="3 jobs from 1 to 7 has gaps"):
        ProcessShare.from_environment(
            {f"SLURM_ARRAY_TASK_{name}": value for name, value in gaps.items()}
        )
    for text, message in (("9/8", "no such part"), ("0/8", "no such part"), ("3-8", "as 3/8")):
        with pytest.raises(ValueError, match=message):
            ProcessShare.parse(text)
    with pytest.raises(ValueError, match="no such part"):
        ProcessShare.from_environment({"RANK": "5", "WORLD_SIZE": "3"})


def test_parts_are_complete_and_stable_when_recordings_are_added():
    paths = [f"{number}\udcff.wav" for number in range(1003)]
    shares = [set(ProcessShare(number, 4).select(paths)) for number in range(1, 5)]
    assert set().union(*shares) == set(paths) and sum(map(len, shares)) == len(paths)
    assert min(map(len, shares)) > 200
    for number, share in enumerate(shares, 1):
        assert share <= set(ProcessShare(number, 4).select(["0000.wav", *paths, "new.wav"]))


# ---------------------------------------------------------------- wrong input


def copy_with_manifest(bundle: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(bundle, to)
    manifest = json.loads((to / "bundle.json").read_text())
    (to / "bundle.json").write_text(json.dumps(manifest | changes))
    return to


def test_wrong_input_is_one_line_with_a_remedy(bundle: Path, demo: Path, tmp_path: Path):
    folder, out = demo / "test_soundscapes", tmp_path / "o"
    other = copy_with_manifest(bundle, tmp_path / "other", format=99)
    damaged = copy_with_manifest(bundle, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"damaged")
    long = copy_with_manifest(bundle, tmp_path / "long", segment_seconds=7.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    unknown = tmp_path / "species.txt"
    unknown.write_text("Turdus merula\n")
    for options, expected in (
        ((empty, folder), "no bundle here"),
        ((other, folder), "bundle format 99"),
        ((damaged, folder), "the weights do not load"),
        ((bundle, tmp_path / "absent"), "no such file or folder"),
        ((bundle, empty), "no recordings here"),
        ((bundle, folder, "--bundle", long), "segments of 5, 7 s: set the length of a window"),
        ((bundle, folder, "--window", "6"), "--window 6: longer than the context of 5 s"),
        ((bundle, folder, "--frame-pooling", "max"), "has no frame logits"),
        ((bundle, folder, "--frame-pooling", "maxi"), "did you mean 'max'?"),
        ((bundle, folder, "--hop", "0"), "--hop 0: it must be from 0.05"),
        ((bundle, folder, "--smoothing", "1"), "--smoothing 1: it must lie in [0, 1)"),
        ((bundle, folder, "--threshold", "50"), "--threshold 50: it must lie between 0 and 1"),
        ((bundle, folder, "--timezone", "Europe/Berln"), "did you mean 'Europe/Berlin'?"),
        ((bundle, folder, "--species", unknown), "none of its 1 lines is a species"),
        ((bundle, folder, "--format", "ravn"), "did you mean 'raven'?"),
        ((bundle, folder, "--engine", "onix"), "did you mean 'onnx'?"),
        ((bundle, folder, "--part", "9/8"), "part 9 of 8: there is no such part"),
    ):
        assert expected in predict_error(options[0], options[1], out, *map(str, options[2:]))
    assert not (out / "detections.csv").exists()


def test_a_bundle_with_weights_that_are_not_finite_is_refused(
    bundle: Path, demo: Path, tmp_path: Path
):
    broken = copy_with_manifest(bundle, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("weight"))
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, broken / "model.safetensors")
    command = ["predict", "--bundle", str(broken), str(demo / "test_soundscapes")]
    done = runner.invoke(app, [*command, "--out", str(tmp_path / "o")])
    assert done.exit_code == 2 and f"tensors are not finite: {name}" in done.stderr
    assert not (tmp_path / "o" / "detections.csv").exists()


def test_absurd_samples_are_reported_and_leave_predictions_finite(
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
    output = call(bundle, folder, tmp_path / "o", "--probabilities", "csv")
    failed = read(tmp_path / "o" / "failed.csv").set_index("path")["error"]
    assert "beyond 2e+09 times full scale: not audio" in failed["none.wav"]
    assert "1 of 2 recordings have warnings, first absurd.wav: absurd-level: 1 of" in output
    recordings = read(tmp_path / "o" / "recordings.csv").set_index("path")
    assert (
        recordings["warning"]["zero.wav"] == ""
        and "absurd-level" in recordings["warning"]["absurd.wav"]
    )
    every = read(tmp_path / "o" / "probabilities.csv").set_index("path").iloc[:, 4:]
    np.testing.assert_allclose(every.loc["absurd.wav"], every.loc["zero.wav"], atol=1e-6)


def test_overlapping_recordings_and_copies_are_reported_and_count_once(
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
    output = call(bundle, folder, out)
    assert (
        "2 recordings have the same bytes as others, first backup/S_20240501_050000.wav (copy of"
        in output
    )
    assert "2 recordings overlap others of their deployment in time, by 5 s in all" in output
    assert (out / "effort.csv").read_text().splitlines()[1:] == ["2024-05-01,5,site,35"]
    warning = read(out / "recordings.csv").set_index("path")["warning"]
    assert warning["backup/S_20240501_050000.wav"] == "copy of site/S_20240501_050000.wav"
    assert warning["site/S_20240501_050015.wav"] == (
        "overlaps in time with site/S_20240501_050000.wav"
    )
    counts = json.loads((out / "run.json").read_text())["counts"]
    assert (counts["copies"], counts["overlapping"]) == (2, 2)


def test_a_list_of_species_leaves_out_all_others(
    bundle: Path, predicted: Path, demo: Path, tmp_path: Path
):
    codes = list(read(predicted / "probabilities.csv").columns[5:])
    names = json.loads((bundle / "bundle.json").read_text())["labels"]["names"]
    (tmp_path / "list.txt").write_text(f"# mine\n{names[3]}\n{codes[1]}\nTurdus merula\n")
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    wanted = (
        "--species",
        str(tmp_path / "list.txt"),
        "--probabilities",
        "csv",
        "--threshold",
        "0.001",
    )
    output = call(bundle, demo / "test_soundscapes", out, *wanted)
    assert "1 of 3 species are not in the bundle: Turdus merula" in output
    kept = [codes[1], codes[3]]
    assert list(read(out / "probabilities.csv").columns[5:]) == kept
    assert set(read(out / "detections.csv")["species"]) <= set(kept)
    assert len(pd.read_csv(out / "detections.csv"))
