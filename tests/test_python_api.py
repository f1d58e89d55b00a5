"""Prediction from Python: ``birdmix.load`` and what it returns."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

import birdmix
from birdmix.cli.main import app
from birdmix.engines.onnx_export import export_network
from birdmix.inference.recording_predictions import RecordingPredictions
from tests.conftest import ROOT

TEXT = {"dtype": {"path": str, "species": str}, "keep_default_na": False}


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> birdmix.Predictor:
    return birdmix.load(bundle, engine="torch")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Eleven seconds of two channels of noise at 48 kHz."""
    file = tmp_path / "noise.wav"
    samples = 0.1 * np.random.default_rng(0).standard_normal((11 * 48_000, 2))
    soundfile.write(file, samples, 48_000, subtype="FLOAT")
    return file


def rows(record: RecordingPredictions) -> pd.DataFrame:
    table = record.detections()
    table.insert(0, "path", record.path)
    return table


def test_the_import_loads_no_library():
    code = (
        "import sys, birdmix\n"
        "print(sorted({'numpy', 'pandas', 'torch', 'typer', 'soundfile'} & set(sys.modules)))\n"
        "print(birdmix.load.__module__, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split("\n")[:2] == ["[]", "birdmix.inference.predictor True"], done.stderr


def test_detections_are_those_of_the_command(
    predictor: birdmix.Predictor, bundle: Path, demo: Path, tmp_path: Path
):
    folder = demo / "test_soundscapes"
    options = ["--bundle", bundle, "--engine", "torch", "--out", tmp_path]
    done = CliRunner().invoke(app, list(map(str, ["predict", folder, *options])))
    assert done.exit_code == 0, done.output
    expected = pd.read_csv(tmp_path / "detections.csv", **TEXT)
    found = pd.concat(sorted(map(rows, predictor.predict(folder)), key=lambda rows: rows.path[0]))
    assert len(found) > 5
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True),
        expected.drop(columns=["datetime", "deployment"])[found.columns],
        atol=1e-6,
        check_dtype=False,
    )


def test_a_record_has_windows_and_probabilities_as_a_table(
    predictor: birdmix.Predictor, demo: Path
):
    file = next((demo / "test_soundscapes").iterdir())
    (record,) = predictor.predict(str(file))
    table = record.to_frame()
    codes = list(predictor.labels.codes)
    assert list(table.columns) == ["start_seconds", "end_seconds", *codes]
    assert record.path == file.name and record.logits.shape == (len(table), len(codes))
    assert np.array_equal(table[codes].to_numpy(), record.probability)
    assert table["start_seconds"].tolist() == record.start_seconds.tolist()


def test_another_threshold_gives_other_detections(predictor: birdmix.Predictor, demo: Path):
    file = next((demo / "test_soundscapes").iterdir())
    (record,) = predictor.predict(file)
    few, many = record.detections(threshold=0.9), record.detections(threshold=0.1)
    assert len(few) < len(many) and (many["confidence"] >= 0.1).all()
    with pytest.raises(ValueError, match="threshold=1: it must lie between 0 and 1"):
        record.detections(threshold=1)


def test_recordings_that_fail_are_listed(predictor: birdmix.Predictor, noise: Path):
    broken, other = noise.with_name("broken.wav"), noise.with_name("sound.m4a")
    broken.write_bytes(b"RIFF, no sound")
    other.write_bytes(bytes(100))
    with pytest.warns(UserWarning, match="2 recordings could not be predicted, first"):
        found = [record.path for record in predictor.predict(noise.parent)]
    assert found == ["noise.wav"]
    assert {path for path, _ in predictor.failed} == {"broken.wav", "sound.m4a"}
    with warnings.catch_warnings(action="error"):
        assert len(list(predictor.predict([noise, noise.parent / "noise.wav"]))) == 1
    assert predictor.failed == []
    with pytest.raises(ValueError, match="no such file or folder"):
        predictor.predict(noise.parent / "absent")
    for nothing in ("", [], [""]):
        with pytest.raises(ValueError, match="name files or folders"):
            predictor.predict(nothing)


def test_after_a_break_the_predictor_predicts_again(
    predictor: birdmix.Predictor, noise: Path, tmp_path: Path
):
    for number in range(12):
        (tmp_path / f"{number}.wav").write_bytes(noise.read_bytes())
    first = next(predictor.predict(tmp_path))
    assert len(first.logits) == 3
    assert len(list(predictor.predict(tmp_path))) == 13


@pytest.mark.parametrize("sample_rate", [48_000, 32_000])
def test_a_waveform_is_predicted_as_its_file(
    predictor: birdmix.Predictor, tmp_path: Path, sample_rate: int
):
    samples = 0.1 * np.random.default_rng(1).standard_normal(13 * sample_rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, sample_rate, subtype="FLOAT")
    (of_file,) = predictor.predict(tmp_path / "a.wav")
    record = predictor.predict_waveform(samples, sample_rate)
    np.testing.assert_allclose(record.logits, of_file.logits, atol=1e-5)
    assert np.array_equal(record.start_seconds, of_file.start_seconds)
    assert record.path == "" and record.seconds == of_file.seconds


def test_a_waveform_of_several_channels_is_their_mean_or_one_of_them(bundle: Path):
    settings = birdmix.PredictSettings(channel=2)
    noise = 0.1 * np.random.default_rng(2).standard_normal((2, 10 * 32_000))
    with birdmix.load(bundle, "torch", settings) as second, birdmix.load(bundle, "torch") as mean:
        np.testing.assert_allclose(
            second.predict_waveform(noise, 32_000).logits,
            mean.predict_waveform(noise[1], 32_000).logits,
            atol=1e-6,
        )
        np.testing.assert_allclose(
            mean.predict_waveform(noise, 32_000).logits,
            mean.predict_waveform(noise.mean(axis=0), 32_000).logits,
            atol=1e-5,
        )
        with pytest.raises(ValueError, match="channel=2: the waveform has 1"):
            second.predict_waveform(noise[0], 32_000)


@pytest.mark.parametrize(
    ("waveform", "sample_rate", "expected"),
    [
        (np.zeros(100, np.int16), 48_000, "divide integers by full scale"),
        (np.zeros((2, 3, 4)), 48_000, r"has shape \[2, 3, 4\]"),
        (np.zeros(0), 48_000, "waveform holds no samples"),
        (np.full(100, np.nan), 48_000, "waveform holds nan or inf"),
        (np.zeros(100), 48, "sample_rate=48: it is in Hz"),
        (np.zeros(2), 384_000, "waveform holds only 2 samples at 384000 Hz"),
        (np.zeros((100, 2)), 48_000, r"pass \[channels, T\]; transpose \[T, channels\]"),
        (np.full(100, 3000.0), 48_000, "full scale is 1: divide 16-bit samples by 32768"),
    ],
)
def test_what_is_no_waveform_is_refused(
    predictor: birdmix.Predictor, waveform: np.ndarray, sample_rate: int, expected: str
):
    with pytest.raises(ValueError, match=expected):
        predictor.predict_waveform(waveform, sample_rate)


def test_ranks_need_the_command(bundle: Path):
    settings = birdmix.PredictSettings(combine="rank")
    with pytest.raises(ValueError, match="use `birdmix predict`"):
        birdmix.load([bundle, bundle], settings=settings)


def test_a_bundle_with_an_export_predicts_without_torch(bundle: Path, tmp_path: Path):
    exported = Path(shutil.copytree(bundle, tmp_path / "exported"))
    export_network(exported, "onnx")
    code = (
        "import sys\n"
        "for name in ('torch', 'torchaudio', 'torchvision', 'timm', 'lightning', 'hydra'):\n"
        "    sys.modules[name] = None  # importing it fails\n"
        "import birdmix, numpy\n"
        "noise = numpy.random.default_rng(0).standard_normal(90_000)\n"
        "predictor = birdmix.load(sys.argv[1])\n"
        "print(predictor.predict_waveform(noise, 32_000).to_frame().shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and done.stdout.startswith("("), done.stderr
