"""Decoding: a segment equals the cut of the whole; whatever yields samples is heard."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.decode import Blocks, decode
from birdmix.audio.encode import write_ogg
from birdmix.audio.examine import examine
from birdmix.audio.reader import probe
from birdmix.audio.segment import read
from birdmix.audio.sound_file import AudioError

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


def assert_segments_are_cuts(file: Path, rate: int, num_positions: int = 20) -> None:
    """Compare segments from anywhere, the end above all, with the whole recording."""
    whole = decode(file, rate)
    rng = np.random.default_rng(0)
    anywhere = rng.integers(0, len(whole), num_positions)
    late = rng.integers(max(len(whole) - 2 * rate, 0), len(whole), num_positions)
    for start in (*anywhere.tolist(), *late.tolist(), len(whole) - 1):
        piece = read(file, start, 3000, rate)
        np.testing.assert_allclose(piece, whole[start : start + 3000], atol=1e-5)


@pytest.mark.parametrize("seconds", [0.05, 0.9, 5.0137, 31.7])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (32_000, 2), (44_100, 1)])
def test_a_vorbis_seek_lands_where_it_should(
    tmp_path: Path, seconds: float, rate: int, channels: int
):
    waveform = chirp(seconds, rate)
    waveform[len(waveform) // 2 :] *= 1e-4  # pages of what is quiet are long
    sound = np.stack([waveform, -0.5 * waveform][:channels], axis=1)
    with soundfile.SoundFile(
        tmp_path / "x.ogg", "w", rate, channels, format="OGG", subtype="VORBIS"
    ) as file:
        for block in np.array_split(sound, 100):
            file.write(block)
    assert_segments_are_cuts(tmp_path / "x.ogg", rate)


def test_a_vorbis_file_with_something_behind_it_is_read_all_the_same(tmp_path: Path):
    write_ogg(tmp_path / "x.ogg", chirp(5, 32_000), 32_000)
    clean = (tmp_path / "x.ogg").read_bytes()
    for behind in (b"TAG" + bytes(125), bytes(200_000), clean):
        (tmp_path / "x.ogg").write_bytes(clean + behind)
        assert_segments_are_cuts(tmp_path / "x.ogg", 32_000)


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize(
    ("rate", "channels", "compression"),
    [(48_000, 2, 0.99), (48_000, 1, 0.95), (44_100, 2, 0.5), (24_000, 1, 0.99)],
)
def test_an_mp3_seek_finds_the_bits_it_borrows(
    tmp_path: Path, rate: int, channels: int, compression: float, mode: str
):
    waveform = chirp(8, rate)
    bursts = np.random.default_rng(1).random(60) < 0.4  # bits are saved in silence, and spent here
    waveform *= np.repeat(bursts, len(waveform) // 60)
    with soundfile.SoundFile(
        tmp_path / "x.mp3", "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode=mode, compression_level=compression,
    ) as file:  # fmt: skip
        file.write(np.stack([waveform] * channels, axis=1))
    assert_segments_are_cuts(tmp_path / "x.mp3", rate)


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
    return "; ".join(map(str, blocks.problems))


def test_odd_recordings_are_told(tmp_path: Path):
    loud = np.sign(chirp(1, 8000))
    broken = chirp(1, 8000)
    broken[7] = np.nan
    assert problems(chirp(1, 8000), tmp_path / "good.wav") == ""
    assert problems(np.zeros(800), tmp_path / "silent.wav") == "silent"
    assert "clipped: 100.0%" in problems(loud, tmp_path / "loud.wav")
    assert "1 samples are not finite" in problems(broken, tmp_path / "nan.wav")
    broken[7:9] = 1e20, -1e20
    said = problems(broken, tmp_path / "absurd.wav")
    assert said == (
        "absurd-level: 2 of 8000 samples are beyond 2e+09 times full scale and read as zero"
    )
    whole = decode(tmp_path / "absurd.wav", 4000)
    assert np.abs(whole).max() < 1
    np.testing.assert_allclose(read(tmp_path / "absurd.wav", 0, 500, 4000), whole[:500], atol=1e-5)


def test_a_truncated_recording_is_heard_as_far_as_it_goes(tmp_path: Path, encoded: dict):
    file = tmp_path / "cut.flac"
    file.write_bytes(encoded["flac"].read_bytes()[:60_000])
    blocks = Blocks(file, 48_000)
    heard = sum(map(len, blocks))
    share = 60_000 / len(encoded["flac"].read_bytes())
    assert share * len(chirp()) - 48_000 / 2 < heard < len(chirp())
    assert "truncated: decoding stopped after" in str(blocks.problems[0])


@pytest.mark.parametrize("content", [b"", b"R", b"not a sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_sound_is_an_audio_error(tmp_path: Path, content: bytes):
    file = tmp_path / "x.wav"
    file.write_bytes(content)
    with pytest.raises(AudioError, match=str(file)):
        decode(file, 32_000)


@pytest.mark.parametrize(
    ("rate", "channels", "told"),
    [
        (1_460_000_000, 1, "the header says 1460000000 Hz, recordings have 1000 to 1000000 Hz"),
        (5, 1, "the header says 5 Hz"),
        (48_000, 1000, "the header says 1000 channels, at most 64 are read"),
    ],
)
def test_a_header_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, rate: int, channels: int, told: str
):
    file = tmp_path / "x.wav"
    soundfile.write(file, chirp(1), 48_000)
    content = bytearray(file.read_bytes())
    content[22:34] = struct.pack("<H2IH", channels, rate, min(2 * channels * rate, 2**32 - 1), 2)
    file.write_bytes(content)
    for use in (probe, lambda f: decode(f, 32_000), lambda f: read(f, 0, 100, 32_000)):
        with pytest.raises(AudioError, match=told):
            use(file)
    assert [problem.name for problem in examine(file).problems] == ["unreadable"]


def test_a_header_that_promises_more_than_a_file_can_hold_does_not_know(tmp_path: Path):
    file = tmp_path / "x.flac"
    soundfile.write(file, chirp(1), 48_000)
    content = bytearray(file.read_bytes())
    content[21:26] = b"\xff" * 5  # 2^36 samples
    file.write_bytes(content[:5000])  # in which no second frame says more
    assert (probe(file).num_frames or 0) < 48_000


@pytest.mark.parametrize("sample_rate", [16_000, 32_000, 48_000])
def test_a_recording_of_which_resampling_leaves_nothing_yields_no_samples(
    tmp_path: Path, sample_rate: int
):
    file = tmp_path / "x.wav"
    soundfile.write(file, np.array([0.1, 0.2]), 192_000)
    with pytest.raises(AudioError, match="holds only 2 samples at 192000 Hz"):
        decode(file, sample_rate)
    assert [problem.name for problem in examine(file).problems] == ["unreadable"]


def test_a_missing_file_is_an_audio_error(tmp_path: Path):
    with pytest.raises(AudioError, match="no such file"):
        probe(tmp_path / "absent.wav")


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


def test_vorbis_seeks_in_real_recordings_land_where_they_should(real_audio: Path):
    files = sorted(real_audio.rglob("*.ogg"))
    readable = [file for file in files if file.read_bytes()[:4] == b"OggS"]
    for file in readable[:: max(len(readable) // 8, 1)]:
        assert_segments_are_cuts(file, probe(file).sample_rate)
