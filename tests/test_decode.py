"""Decoding: a segment equals the same samples of the whole recording; damaged files are read."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.audio_file import AudioError
from birdmix.audio.decode import DecodedBlocks, decode_recording
from birdmix.audio.encode import write_ogg
from birdmix.audio.examine import examine_audio_file
from birdmix.audio.segment_reader import read_segment
from birdmix.audio.stream_reader import read_audio_info

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
}


def chirp(seconds: float = 4.0, rate: int = 48_000) -> np.ndarray:
    """A sweep with a little noise, so that no two segments are equal."""
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
def test_a_segment_equals_the_same_samples_of_the_whole(encoded: dict, suffix: str, rate: int):
    whole = decode_recording(encoded[suffix], rate)
    for start in (0, 1, 777, 30_001, len(whole) - 500):
        segment = read_segment(encoded[suffix], start, 9000, rate)
        np.testing.assert_allclose(segment, whole[start : start + 9000], atol=1e-5)


def assert_segments_equal_whole(file: Path, rate: int, num_positions: int = 20) -> None:
    """Compare segments at random positions, half of them near the end, with the whole."""
    whole = decode_recording(file, rate)
    rng = np.random.default_rng(0)
    anywhere = rng.integers(0, len(whole), num_positions)
    late = rng.integers(max(len(whole) - 2 * rate, 0), len(whole), num_positions)
    for start in (*anywhere.tolist(), *late.tolist(), len(whole) - 1):
        segment = read_segment(file, start, 3000, rate)
        np.testing.assert_allclose(segment, whole[start : start + 3000], atol=1e-5)


@pytest.mark.parametrize("seconds", [0.05, 0.9, 5.0137, 31.7])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (32_000, 2), (44_100, 1)])
def test_a_vorbis_seek_is_exact(tmp_path: Path, seconds: float, rate: int, channels: int):
    waveform = chirp(seconds, rate)
    waveform[len(waveform) // 2 :] *= 1e-4  # quiet parts give long pages
    sound = np.stack([waveform, -0.5 * waveform][:channels], axis=1)
    with soundfile.SoundFile(
        tmp_path / "x.ogg", "w", rate, channels, format="OGG", subtype="VORBIS"
    ) as file:
        for block in np.array_split(sound, 100):
            file.write(block)
    assert_segments_equal_whole(tmp_path / "x.ogg", rate)


def test_a_vorbis_file_with_bytes_after_its_end_is_read(tmp_path: Path):
    write_ogg(tmp_path / "x.ogg", chirp(5, 32_000), 32_000)
    clean = (tmp_path / "x.ogg").read_bytes()
    for trailer in (b"TAG" + bytes(125), bytes(200_000), clean):
        (tmp_path / "x.ogg").write_bytes(clean + trailer)
        assert_segments_equal_whole(tmp_path / "x.ogg", 32_000)


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize(
    ("rate", "channels", "compression"),
    [(48_000, 2, 0.99), (48_000, 1, 0.95), (44_100, 2, 0.5), (24_000, 1, 0.99)],
)
def test_an_mp3_seek_decodes_the_bit_reservoir(
    tmp_path: Path, rate: int, channels: int, compression: float, mode: str
):
    waveform = chirp(8, rate)
    bursts = np.random.default_rng(1).random(60) < 0.4  # the reservoir fills in silence
    waveform *= np.repeat(bursts, len(waveform) // 60)
    with soundfile.SoundFile(
        tmp_path / "x.mp3", "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode=mode, compression_level=compression,
    ) as file:  # fmt: skip
        file.write(np.stack([waveform] * channels, axis=1))
    assert_segments_equal_whole(tmp_path / "x.mp3", rate)


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_concatenate_to_the_whole(encoded: dict, suffix: str):
    short = np.concatenate(list(DecodedBlocks(encoded[suffix], 32_000, block_seconds=0.3)))
    np.testing.assert_allclose(short, decode_recording(encoded[suffix], 32_000), atol=1e-5)


def test_channels_are_averaged(tmp_path: Path):
    file = tmp_path / "stereo.wav"
    soundfile.write(file, np.array([[0.5, -0.1]] * 100), 8000, subtype="FLOAT")
    np.testing.assert_allclose(decode_recording(file, 8000), np.full(100, 0.2), atol=1e-6)


def problems(waveform: np.ndarray, file: Path) -> str:
    soundfile.write(file, waveform, 8000, subtype="FLOAT")
    blocks = DecodedBlocks(file, 8000)
    assert np.isfinite(np.concatenate(list(blocks))).all()
    return "; ".join(map(str, blocks.problems))


def test_problems_of_the_samples_are_reported(tmp_path: Path):
    loud = np.sign(chirp(1, 8000))
    broken = chirp(1, 8000)
    broken[7] = np.nan
    assert problems(chirp(1, 8000), tmp_path / "good.wav") == ""
    assert problems(np.zeros(800), tmp_path / "silent.wav") == "silent"
    assert "clipped: 100.0%" in problems(loud, tmp_path / "loud.wav")
    assert "1 samples are not finite" in problems(broken, tmp_path / "nan.wav")
    broken[7:9] = 1e20, -1e20
    assert problems(broken, tmp_path / "absurd.wav") == (
        "absurd-level: 2 of 8000 samples are beyond 2e+09 times full scale and read as zero"
    )
    whole = decode_recording(tmp_path / "absurd.wav", 4000)
    assert np.abs(whole).max() < 1
    np.testing.assert_allclose(
        read_segment(tmp_path / "absurd.wav", 0, 500, 4000), whole[:500], atol=1e-5
    )


def test_a_truncated_recording_is_decoded_up_to_its_end(tmp_path: Path, encoded: dict):
    file = tmp_path / "cut.flac"
    file.write_bytes(encoded["flac"].read_bytes()[:60_000])
    blocks = DecodedBlocks(file, 48_000)
    decoded = sum(map(len, blocks))
    share = 60_000 / len(encoded["flac"].read_bytes())
    assert share * len(chirp()) - 48_000 / 2 < decoded < len(chirp())
    assert "truncated: decoding stopped after" in str(blocks.problems[0])


@pytest.mark.parametrize("content", [b"", b"R", b"not a sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_file_without_audio_is_an_audio_error(tmp_path: Path, content: bytes):
    file = tmp_path / "x.wav"
    file.write_bytes(content)
    with pytest.raises(AudioError, match=str(file)):
        decode_recording(file, 32_000)


@pytest.mark.parametrize(
    ("rate", "channels", "message"),
    [
        (1_460_000_000, 1, "the header states 1460000000 Hz, not within 1000 to 1000000 Hz"),
        (5, 1, "the header states 5 Hz"),
        (48_000, 1000, "the header states 1000 channels, at most 64 are supported"),
    ],
)
def test_an_invalid_header_is_refused_before_samples_are_read(
    tmp_path: Path, rate: int, channels: int, message: str
):
    file = tmp_path / "x.wav"
    soundfile.write(file, chirp(1), 48_000)
    content = bytearray(file.read_bytes())
    content[22:34] = struct.pack("<H2IH", channels, rate, min(2 * channels * rate, 2**32 - 1), 2)
    file.write_bytes(content)
    for use in (
        read_audio_info,
        lambda f: decode_recording(f, 32_000),
        lambda f: read_segment(f, 0, 100, 32_000),
    ):
        with pytest.raises(AudioError, match=message):
            use(file)
    assert [problem.name for problem in examine_audio_file(file).problems] == ["unreadable"]


def test_an_impossible_number_of_samples_in_a_header_is_not_used(tmp_path: Path):
    file = tmp_path / "x.flac"
    soundfile.write(file, chirp(1), 48_000)
    content = bytearray(file.read_bytes())
    content[21:26] = b"\xff" * 5  # 2^36 samples
    file.write_bytes(content[:5000])  # without a second frame to count samples by
    assert (read_audio_info(file).num_frames or 0) < 48_000


@pytest.mark.parametrize("sample_rate", [16_000, 32_000, 48_000])
def test_a_recording_shorter_than_one_resampled_sample_is_an_audio_error(
    tmp_path: Path, sample_rate: int
):
    file = tmp_path / "x.wav"
    soundfile.write(file, np.array([0.1, 0.2]), 192_000)
    with pytest.raises(AudioError, match="holds only 2 samples at 192000 Hz"):
        decode_recording(file, sample_rate)
    assert [problem.name for problem in examine_audio_file(file).problems] == ["unreadable"]


def test_a_missing_file_is_an_audio_error(tmp_path: Path):
    with pytest.raises(AudioError, match="no such file"):
        read_audio_info(tmp_path / "absent.wav")


def test_a_vorbis_file_decodes_to_the_written_waveform(tmp_path: Path):
    write_ogg(tmp_path / "x.ogg", chirp(2, 32_000), 32_000)
    assert read_audio_info(tmp_path / "x.ogg").encoding == "OGG/VORBIS"
    assert np.abs(decode_recording(tmp_path / "x.ogg", 32_000) - chirp(2, 32_000)).mean() < 0.02
    assert [file.name for file in tmp_path.iterdir()] == ["x.ogg"]


def test_segments_of_real_recordings_equal_the_same_samples_of_the_whole(real_audio: Path):
    rng = np.random.default_rng(0)
    for file in sorted((real_audio / "odd" / "perch").iterdir()):
        for rate in (16_000, 32_000):
            whole = decode_recording(file, rate)
            for start in rng.integers(0, len(whole) - rate, 5).tolist():
                segment = read_segment(file, start, rate, rate)
                np.testing.assert_allclose(segment, whole[start : start + rate], atol=1e-5)


def test_vorbis_seeks_in_real_recordings_are_exact(real_audio: Path):
    files = sorted(real_audio.rglob("*.ogg"))
    readable = [file for file in files if file.read_bytes()[:4] == b"OggS"]
    for file in readable[:: max(len(readable) // 8, 1)]:
        assert_segments_equal_whole(file, read_audio_info(file).sample_rate)
