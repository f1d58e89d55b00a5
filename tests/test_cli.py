"""Listening from the command line: every recording ends in exactly one place."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from birdmix.app.cli import app
from tests.conftest import ROOT

runner = CliRunner()


def predict(bundle: Path, folder: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    done = runner.invoke(app, ["predict", "--bundle", str(bundle), str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = {"dtype": {"path": str, "warning": str}, "keep_default_na": False}
    return pd.read_csv(out / "predictions.csv", **text), pd.read_csv(out / "failed.csv", **text)


def test_a_folder_is_heard_window_by_window(bundle: Path, demo: Path, tmp_path: Path):
    predictions, failed = predict(bundle, demo / "test_soundscapes", tmp_path)
    assert len(predictions) == 2 * 12 and failed.empty
    first = predictions[predictions["path"] == predictions["path"][0]]
    assert first["start_seconds"].tolist() == [5 * w for w in range(12)]
    assert first["end_seconds"].tolist() == [5 * w + 5 for w in range(12)]
    scores = predictions.iloc[:, 3:-1]
    assert list(scores.columns) == sorted(pd.read_csv(demo / "taxonomy.csv", dtype=str).iloc[:, 0])
    assert scores.gt(0).all(axis=None) and scores.lt(1).all(axis=None)


def test_any_rate_channels_and_depth_of_folders_are_heard(bundle: Path, tmp_path: Path):
    folder = tmp_path / "in"
    (folder / "a" / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(folder / "a/b/stereo.wav", rng.normal(0, 0.1, (48_000 * 7, 2)), 48_000)
    soundfile.write(folder / "short.flac", rng.normal(0, 0.1, 800), 8000)
    shutil.copy(folder / "short.flac", folder / "._short.flac")
    predictions, failed = predict(bundle, folder, tmp_path / "out")
    assert predictions["path"].tolist() == ["a/b/stereo.wav"] * 2 + ["short.flac"]
    assert predictions["end_seconds"].tolist() == [5, 7, 0.1]
    assert failed.empty


def test_every_odd_file_ends_in_exactly_one_place(bundle: Path, real_audio: Path, tmp_path: Path):
    odd = real_audio / "odd"
    predictions, failed = predict(bundle, odd, tmp_path)
    heard, not_heard = set(predictions["path"]), list(failed["path"])
    everything = {p.relative_to(odd).as_posix() for p in odd.rglob("*") if p.is_file()}
    assert len(not_heard) == len(set(not_heard))
    assert heard | set(not_heard) == everything and not heard & set(not_heard)
    assert len(everything) == 48
    assert set(not_heard) == {
        "flac/04 - wrong number of channels.flac",
        "flac/11 - incorrect metadata block length.flac",
        "hound/crash-e5471f5b58397287b509db7d026e95f1724454f5.wav",
        "librosa_data/Karissa_Hobbs_-_Let's_Go_Fishin'.ogg",
        "opensoundscape/empty_2c.wav",
        "scipy/test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav",
        "tinytag/empty_file.wav",
        "tinytag/incomplete.mp3",
        "tinytag/invalid_file.wav",
        "tinytag/no_audio_data_uncompressed.wav",
    }
    assert failed["error"].str.len().gt(5).all() and not failed["error"].str.contains("odd/").any()
    warning = predictions.groupby("path")["warning"].first()
    assert "silent" in warning["tinytag/24bit_pcm.wav"]
    assert "header says 47232 samples, 46080 decoded" in warning["tinytag/mp3_audio.wav"]
    assert "clipped" in warning["hound/waveformatextensible-ieeefloat-44100Hz-mono.wav"]


def test_a_submission_is_the_one_the_run_wrote(
    bundle: Path, finished_run: Path, demo: Path, tmp_path: Path
):
    out = tmp_path / "submission.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(demo), "--out", str(out)]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == (finished_run / "submission.csv").read_bytes()


def test_a_submission_follows_the_samples_columns(bundle: Path, demo: Path, tmp_path: Path):
    data = tmp_path / "competition"
    shutil.copytree(demo / "test_soundscapes", data / "test_soundscapes")
    sample = pd.read_csv(demo / "sample_submission.csv")
    columns = ["row_id", "unheard1", *sample.columns[:4:-1]]
    sample.assign(unheard1=0.1)[columns].to_csv(data / "sample_submission.csv", index=False)
    with pytest.warns(UserWarning, match="does not know 1 of .* species.*unheard1"):
        from birdmix.inference.engine import open_engine
        from birdmix.kaggle.submission import submit

        submit(open_engine(bundle), data, tmp_path / "s.csv")
    submission = pd.read_csv(tmp_path / "s.csv")
    assert list(submission.columns) == columns
    assert submission["unheard1"].to_list() == pytest.approx([1 / (len(columns) - 1)] * 24)


def edited(bundle: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(bundle, to)
    manifest = json.loads((to / "bundle.json").read_text())
    (to / "bundle.json").write_text(json.dumps(manifest | changes))
    return to


def test_wrong_input_is_one_line_with_its_remedy(bundle: Path, demo: Path, tmp_path: Path):
    folder = str(demo / "test_soundscapes")
    other = edited(bundle, tmp_path / "other", format=99)
    torn = edited(bundle, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong_bundle, wrong_folder, expected in (
        (empty, folder, "no bundle here"),
        (other, folder, "bundle format 99"),
        (torn, folder, "the weights do not load"),
        (bundle, str(tmp_path / "absent"), "no such folder"),
        (bundle, str(empty), "no recordings here"),
    ):
        call = [
            "predict",
            "--bundle",
            str(wrong_bundle),
            wrong_folder,
            "--out",
            str(tmp_path / "o"),
        ]
        done = runner.invoke(app, call)
        assert done.exit_code == 2
        assert expected in done.stderr and "Traceback" not in done.output
        assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "o" / "predictions.csv").exists()


def test_listening_imports_neither_hydra_nor_lightning(bundle: Path, demo: Path, tmp_path: Path):
    code = (
        "import sys; from birdmix.app.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'hydra', 'omegaconf', 'lightning', 'librosa'} & set(sys.modules)"
    )
    call = ["predict", "--bundle", bundle, demo / "test_soundscapes", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, call)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "predictions.csv").is_file()
