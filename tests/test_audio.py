"""Decoding: a segment equals the cut of the whole; whatever yields samples is heard."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.decode import AudioError, Blocks, decode, find_recordings, probe, read
from birdmix.audio.encode import write_ogg

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
}


def chirp(seconds: float = 4.0, rate: int = 48_000) -> np.ndarray:
    """A sweep with a little noise: every stretch of it sounds different."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.01, len(t))
    return (0.3 * np.sin(2 * np.pi * (500 + 1000 * t) * t) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoded")
    for suffix, (container, codec) in FORMATS.items():
        soundfile.write(folder / f"x.{suffix}", chirp(), 48_000, format=container, subtype=codec)
    return {suffix: folder / f"x.{suffix}" for suffix in FORMATS}


@pytest.mark.parametrize("rate", [48_000, 32_000, 22_050])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_segment_equals_the_cut_of_the_whole(encoded: dict, suffix: str, rate: int):
    whole = decode(encoded[suffix], rate)
    for start in (0, 1, 777, 30_001, len(whole) - 500):
        piece = read(encoded[suffix], start, 9000, rate)
        np.testing.assert_allclose(piece, whole[start : start + 9000], atol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_add_up_to_the_whole(encoded: dict, suffix: str):
    short = np.concatenate(list(Blocks(encoded[suffix], 32_000, block_seconds=0.3)))
    np.testing.assert_allclose(short, decode(encoded[suffix], 32_000), atol=1e-5)


def test_channels_are_averaged(tmp_path: Path):
    file = tmp_path / "stereo.wav"
    soundfile.write(file, np.array([[0.5, -0.1]] * 100), 8000, subtype="FLOAT")
    np.testing.assert_allclose(decode(file, 8000), np.full(100, 0.2), atol=1e-6)


def problems(waveform: np.ndarray, file: Path) -> str:
    soundfile.write(file, waveform, 8000, subtype="FLOAT")
    blocks = Blocks(file, 8000)
    assert np.isfinite(np.concatenate(list(blocks))).all()
    return "; ".join(blocks.problems)


def test_odd_recordings_are_told(tmp_path: Path):
    loud = np.sign(chirp(1, 8000))
    broken = chirp(1, 8000)
    broken[7] = np.nan
    assert problems(chirp(1, 8000), tmp_path / "good.wav") == ""
    assert problems(np.zeros(800), tmp_path / "silent.wav") == "silent"
    assert "clipped: 100.0%" in problems(loud, tmp_path / "loud.wav")
    assert "1 samples are not finite" in problems(broken, tmp_path / "nan.wav")


def test_a_truncated_recording_is_heard_as_far_as_it_goes(tmp_path: Path, encoded: dict):
    file = tmp_path / "cut.flac"
    file.write_bytes(encoded["flac"].read_bytes()[:60_000])
    blocks = Blocks(file, 48_000)
    heard = sum(map(len, blocks))
    share = 60_000 / len(encoded["flac"].read_bytes())
    assert share * len(chirp()) - 48_000 / 2 < heard < len(chirp())
    assert "truncated: decoding stopped after" in blocks.problems[0]


@pytest.mark.parametrize("content", [b"", b"R", b"not a sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_sound_is_an_audio_error(tmp_path: Path, content: bytes):
    file = tmp_path / "x.wav"
    file.write_bytes(content)
    with pytest.raises(AudioError, match=str(file)):
        decode(file, 32_000)


def test_a_missing_file_is_an_audio_error(tmp_path: Path):
    with pytest.raises(AudioError, match="no such file"):
        probe(tmp_path / "absent.wav")


def test_recordings_are_found_by_suffix_and_hidden_files_are_not(tmp_path: Path):
    for name in ("b/x.WAV", "a.ogg", "._a.ogg", ".hidden/x.ogg", "notes.txt", "ä b.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_recordings(tmp_path) == ["a.ogg", "b/x.WAV", "ä b.mp3"]


def test_a_vorbis_file_keeps_what_was_written(tmp_path: Path):
    write_ogg(tmp_path / "x.ogg", chirp(2, 32_000), 32_000)
    assert probe(tmp_path / "x.ogg").encoding == "OGG/VORBIS"
    assert np.abs(decode(tmp_path / "x.ogg", 32_000) - chirp(2, 32_000)).mean() < 0.02
    assert [file.name for file in tmp_path.iterdir()] == ["x.ogg"]


def test_segments_of_real_recordings_equal_the_cut_of_the_whole(real_audio: Path):
    rng = np.random.default_rng(0)
    for file in sorted((real_audio / "odd" / "perch").iterdir()):
        for rate in (16_000, 32_000):
            whole = decode(file, rate)
            for start in rng.integers(0, len(whole) - rate, 5).tolist():
                piece = read(file, start, rate, rate)
                np.testing.assert_allclose(piece, whole[start : start + rate], atol=1e-5)
