"""Examination of audio files: problems by name, and duplicates in any format."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio import duplicates
from birdmix.audio.duplicates import AudioSignature, SignatureBuilder, find_duplicates
from birdmix.audio.examine import ENCODINGS, examine_audio_file
from birdmix.audio.find_recordings import AUDIO_SUFFIXES

RATE = 24_000

FORMATS = {
    "wav": "WAV/PCM_16",
    "flac": "FLAC/PCM_16",
    "ogg": "OGG/VORBIS",
    "opus": "OGG/OPUS",
    "mp3": "MP3/MPEG_LAYER_III",
}


def scene(seed: int, seconds: float = 5.0) -> np.ndarray:
    """Chirps at random times and pitches over the noise of one recorder."""
    rng = np.random.default_rng(seed)
    waveform = rng.normal(0, 0.01, int(seconds * RATE))
    for _ in range(int(2 * seconds)):
        t = np.arange(int(rng.uniform(0.1, 0.4) * RATE)) / RATE
        pitch, slope = rng.uniform(1000, 6000), rng.uniform(-3000, 3000)
        start = rng.integers(len(waveform) - len(t))
        song = np.sin(2 * np.pi * (pitch + slope * t / 2) * t) * np.hanning(len(t))
        waveform[start : start + len(t)] += rng.uniform(0.05, 0.2) * song
    return waveform.astype(np.float32)


def write(file: Path, waveform: np.ndarray, encoding: str = "WAV/PCM_16", rate: int = RATE) -> Path:
    container, codec = encoding.split("/")
    channels = 1 if waveform.ndim == 1 else waveform.shape[1]
    with soundfile.SoundFile(
        file, "w", samplerate=rate, channels=channels, format=container, subtype=codec
    ) as out:
        for start in range(0, len(waveform), 1 << 14):  # longer writes have crashed in Vorbis
            out.write(waveform[start : start + (1 << 14)])
    return file


def problem_names(file: Path) -> set[str]:
    return {problem.name for problem in examine_audio_file(file).problems}


def channels(*gains: float) -> np.ndarray:
    return np.stack([gain * scene(0) for gain in gains], axis=1)


def test_an_intact_recording_has_no_problems(tmp_path: Path):
    for suffix, encoding in FORMATS.items():
        examination = examine_audio_file(write(tmp_path / f"x.{suffix}", scene(0), encoding))
        assert examination.problems == ()
        assert examination.info.encoding == encoding
        assert examination.seconds == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    "problem",
    ["silent", "clipped", "not-finite", "absurd-level", "dc-offset", "channels-cancel"],
)
def test_problems_of_the_samples_are_reported(tmp_path: Path, problem: str):
    waveform = {
        "silent": np.zeros(RATE),
        "clipped": np.sign(scene(0)),
        "not-finite": np.where(np.arange(5 * RATE) == 7, np.nan, scene(0)),
        "absurd-level": np.where(np.arange(5 * RATE) == 7, 1e20, scene(0)),
        "dc-offset": scene(0) + 0.1,
        "channels-cancel": channels(1, -0.9),
    }[problem]
    assert problem_names(write(tmp_path / "x.wav", waveform, "WAV/FLOAT")) == {problem}


def test_dither_is_silence_unless_the_codec_has_a_higher_resolution(tmp_path: Path):
    dither = np.random.default_rng(0).integers(-1, 2, RATE) / 2**15
    assert problem_names(write(tmp_path / "x.wav", dither)) == {"silent"}
    assert problem_names(write(tmp_path / "x.wav", dither, "WAV/PCM_24")) == set()


def test_a_constant_is_a_dc_offset_and_a_small_offset_of_a_loud_recording_is_not(tmp_path: Path):
    assert problem_names(write(tmp_path / "x.wav", np.full(RATE, 0.5))) == {"dc-offset"}
    assert problem_names(write(tmp_path / "x.wav", scene(0) + scene(0).std() / 4)) == set()


def test_uncorrelated_channels_do_not_cancel(tmp_path: Path):
    uncorrelated = np.stack([scene(0), scene(1)], axis=1)
    assert problem_names(write(tmp_path / "x.wav", uncorrelated)) == set()


@pytest.mark.parametrize(
    ("gains", "hiss", "message"),
    [
        ((1, 0), (0, 0), "channel 2 silent, others are not; use --channel 1"),
        ((0, 0, 1), (0, 0, 0), "channels 1, 2 silent, others are not; use --channel 3"),
        ((0.001, 0.001), (0, 0.05), "channel 2 with a noise level 6[0-9] dB from that of"),
        ((1, 1, 1), (0.2, 0, 0), "channel 1 with a noise level 2[0-9] dB .* try --channel 2"),
        ((1, 1), (0, 0), ""),
        ((1, 0.4), (0, 0.005), ""),  # another gain, and a little hiss
    ],
)
def test_a_channel_that_is_silent_or_noisier_than_the_others_is_reported(
    tmp_path: Path, gains, hiss, message
):
    noise = np.random.default_rng(1).normal(0, 1, (5 * RATE, len(gains)))
    problems = examine_audio_file(
        write(tmp_path / "x.wav", channels(*gains) + hiss * noise)
    ).problems
    details = [problem.detail for problem in problems if problem.name == "channels-differ"]
    assert len(details) == bool(message)
    assert all(re.match(message, detail) for detail in details), details
    for suffix in ("mp3", "ogg") if len(gains) == 2 else ():  # codecs with joint stereo
        file = write(tmp_path / f"x.{suffix}", channels(*gains) + hiss * noise, FORMATS[suffix])
        assert ("channels-differ" in problem_names(file)) is bool(message)


def test_wind_and_a_bird_at_one_of_two_microphones_are_no_problem(tmp_path: Path):
    near, rng = channels(1, 1), np.random.default_rng(1)
    near[:, 0] += 0.5 * np.sin(np.arange(len(near)) * 2 * np.pi * 60 / RATE)  # 60 Hz
    near[:, 1] += np.where(rng.random(5)[:, None] < 0.5, 0.3, 0).repeat(RATE, 1).ravel() * np.sin(
        np.arange(len(near)) * 2 * np.pi * 4000 / RATE
    )
    assert problem_names(write(tmp_path / "x.wav", near)) == set()


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg", "opus", "mp3"])
def test_a_truncated_file_is_reported(tmp_path: Path, suffix: str):
    encoding = {**FORMATS, "aiff": "AIFF/PCM_16"}[suffix]
    file = write(tmp_path / f"x.{suffix}", scene(0), encoding)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    assert problem_names(file) == {"truncated"}


def test_a_flac_file_with_more_samples_than_stated_is_reported(tmp_path: Path):
    file = write(tmp_path / "x.flac", scene(0), "FLAC/PCM_16")
    content = bytearray(file.read_bytes())
    content[22:26] = (3 * RATE).to_bytes(4, "big")  # the low bits of the count in STREAMINFO
    file.write_bytes(content)
    assert problem_names(file) == {"header"}


def test_a_wav_file_from_a_pipe_is_not_reported_as_truncated(tmp_path: Path):
    file = write(tmp_path / "x.wav", scene(0))
    content = file.read_bytes()
    file.write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])
    assert problem_names(file) == set()


@pytest.mark.parametrize(
    ("problem", "name", "encoding", "rate"),
    [
        ("rate", "x.wav", "WAV/PCM_16", 8000),
        ("rate", "x.wav", "WAV/PCM_16", 192_000),
        ("extension", "x.wav", "OGG/VORBIS", RATE),
        ("extension", "x.MP3", "WAV/PCM_16", RATE),
        ("extension", "x.opus", "OGG/VORBIS", RATE),
        ("unreadable", "x.wav", "WAV/PCM_16", 1),
    ],
)
def test_unusual_headers_are_reported(
    tmp_path: Path, problem: str, name: str, encoding: str, rate: int
):
    assert problem_names(write(tmp_path / name, scene(0), encoding, rate)) == {problem}


def test_more_than_two_channels_are_reported(tmp_path: Path):
    assert problem_names(write(tmp_path / "x.wav", channels(1, 1, 1))) == {"channels"}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("x.ogg", "OGG/OPUS"),
        ("x.WAV", "WAVEX/FLOAT"),
        ("x.wav", "RF64/PCM_24"),
        ("x.wav", "WAV/MS_ADPCM"),
    ],
)
def test_any_codec_of_a_container_is_accepted(tmp_path: Path, name: str, encoding: str):
    assert "extension" not in problem_names(write(tmp_path / name, scene(0), encoding))


def test_every_supported_suffix_has_its_encodings():
    assert set(ENCODINGS) == AUDIO_SUFFIXES


def test_a_file_without_samples_has_one_problem_and_no_signature(tmp_path: Path):
    (tmp_path / "text.ogg").write_text("../elsewhere/x.ogg")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "bytes.wav").touch()
    write(tmp_path / "samples.wav", np.zeros(0), rate=8000)
    for name, problem in {
        "text.ogg": "unreadable",
        "folder.wav": "unreadable",
        "absent.wav": "unreadable",
        "bytes.wav": "empty",
        "samples.wav": "empty",
    }.items():
        examination = examine_audio_file(tmp_path / name)
        assert [problem.name for problem in examination.problems] == [problem], name
        assert examination.problems[0].detail
        assert (examination.seconds, examination.digest, examination.fingerprint) == (0, None, None)


def test_infinite_samples_are_reported_without_a_numpy_warning(tmp_path: Path):
    waveform = np.stack([scene(0) * 1e38, np.full(5 * RATE, -np.inf)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem_names(write(tmp_path / "two.wav", waveform, "WAV/FLOAT")) == {"unreadable"}
        one = problem_names(write(tmp_path / "one.wav", waveform[:, 0], "WAV/FLOAT"))
        assert one == {"unreadable"}  # no valid samples remain


def test_integers_stored_as_floats_are_reported_as_clipped(tmp_path: Path):
    assert problem_names(write(tmp_path / "x.wav", scene(0) * 2**31, "WAV/FLOAT")) == {"clipped"}


def signature(waveform: np.ndarray, bounds: list[int]) -> AudioSignature:
    builder = SignatureBuilder()
    for block in np.split(waveform, bounds):
        builder.add(block)
    return builder.signature()


def test_signatures_do_not_depend_on_the_blocks():
    waveform = scene(0, 60)
    bounds = np.random.default_rng(0).integers(0, len(waveform), 40)
    single, blocks = signature(waveform, []), signature(waveform, sorted(bounds.tolist()))
    assert single.digest == blocks.digest
    np.testing.assert_allclose(single.fingerprint, blocks.fingerprint, atol=1e-3)


def test_signatures_of_long_recordings_need_bounded_memory():
    builder, half_a_minute = SignatureBuilder(), scene(0, 20)
    for _ in range(20):
        builder.add(half_a_minute)
        assert len(builder._columns) <= 2048
        assert len(builder._pending_frames) <= 32


def test_a_stationary_signal_has_no_fingerprint():
    t = np.arange(5 * duplicates.FINGERPRINT_RATE) / duplicates.FINGERPRINT_RATE
    for waveform in (0 * t, 0 * t + 0.5, 0.5 * np.sin(2 * np.pi * 1000 * t), scene(0)[:8000]):
        assert signature(waveform.astype(np.float32), []).fingerprint is None


@pytest.mark.parametrize(
    ("seconds", "suffixes"), [(5, FORMATS), (10, FORMATS), (60, ("wav", "ogg"))]
)
def test_copies_in_other_formats_are_found_and_other_scenes_are_not(
    tmp_path: Path, seconds: int, suffixes: Iterable[str]
):
    for suffix in suffixes:
        write(tmp_path / f"copy.{suffix}", scene(0, seconds), FORMATS[suffix])
    # An encoder that does not state its delay makes the whole recording late.
    late = np.concatenate([np.zeros(int(0.05 * RATE)), scene(0, seconds)])
    write(tmp_path / "late.mp3", 0.5 * late, "MP3/MPEG_LAYER_III")
    for seed in (1, 2):
        write(tmp_path / f"{seed}.wav", scene(seed, seconds))
    write(tmp_path / "part.wav", scene(0, seconds)[: -RATE // 2])
    examined = {file.name: examine_audio_file(file) for file in tmp_path.iterdir()}
    copies = sorted([*(f"copy.{suffix}" for suffix in suffixes), "late.mp3"])
    assert find_duplicates(examined) == [tuple(copies)]


def test_recordings_with_equal_samples_at_16_bits_are_duplicates(tmp_path: Path):
    short = np.round(scene(0)[: RATE // 2] * 32768) / 32768  # too short for a fingerprint
    other = short.copy()
    other[1000] += 30 / 32768
    write(tmp_path / "a.wav", short)
    write(tmp_path / "b.flac", short, "FLAC/PCM_24")
    write(tmp_path / "c.wav", other)
    examined = {file.name: examine_audio_file(file) for file in tmp_path.iterdir()}
    assert find_duplicates(examined) == [("a.wav", "b.flac")]


def test_silent_recordings_are_not_duplicates(tmp_path: Path):
    files = [write(tmp_path / f"{name}.wav", np.zeros(2 * RATE)) for name in "ab"]
    assert find_duplicates({file.name: examine_audio_file(file) for file in files}) == []


def test_recordings_of_one_stationary_noise_are_not_duplicates():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 160_000)).cumsum(axis=1)
    steady = np.diff(noise, axis=1) + 0.01 * noise[:, 1:]
    sounds = {str(i): signature(row.astype(np.float32), []) for i, row in enumerate(steady)}
    assert find_duplicates(sounds) == []


def test_among_many_recordings_all_pairs_of_one_duration_are_compared(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(duplicates, "_TILE", 7)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(25, 100))[rng.integers(0, 25, 200)].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seconds = rng.integers(0, 4, 200).astype(float)
    sounds = {f"{i:03}": AudioSignature(seconds[i], str(i), vectors[i]) for i in range(200)}
    expected: dict[tuple[float, bytes], list[str]] = {}
    for path, sound in sounds.items():
        expected.setdefault((sound.seconds, sound.fingerprint.tobytes()), []).append(path)
    groups = sorted(tuple(group) for group in expected.values() if len(group) > 1)
    assert find_duplicates(sounds) == groups


def test_no_recordings_have_no_duplicates():
    assert find_duplicates({}) == []


#: Expected problems of each file of ``odd``, from the notes of its manifest.
EXPECTED_PROBLEMS: dict[str, set[str]] = {
    "audioread/test-2.mp3": set(),
    "flac/04 - wrong number of channels.flac": {"unreadable"},
    "flac/05 - wrong total number of samples.flac": {"header"},
    "flac/11 - incorrect metadata block length.flac": {"unreadable"},
    "flac/45 - no total number of samples set.flac": set(),  # marks the number as unknown
    "hound/crash-e5471f5b58397287b509db7d026e95f1724454f5.wav": {"unreadable"},
    "hound/waveformatextensible-24bit-192kHz-mono.wav": {"unreadable"},  # 4 samples
    "hound/waveformatextensible-ieeefloat-44100Hz-mono.wav": {"clipped"},  # peak 16411
    "librosa_data/456440__inspectorj__bird-whistling-robin-single-13.ogg": set(),
    "librosa_data/Karissa_Hobbs_-_Let's_Go_Fishin'.ogg": {"unreadable"},
    "opensoundscape/empty_2c.wav": {"empty"},
    "opensoundscape/metadata.wav": set(),
    "opensoundscape/silence_10s.mp3": set(),  # by its name only: noise with a peak of -67 dBFS
    "opensoundscape/stereo.wav": set(),
    "opensoundscape/veryshort.wav": set(),
    **{f"perch/21100_36_48.{suffix}": set() for suffix in FORMATS},
    "scipy/test-44100Hz-2ch-32bit-float-le.wav": set(),
    "scipy/test-44100Hz-le-1ch-4bytes-early-eof.wav": {"truncated"},
    "scipy/test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav": {"unreadable"},
    "scipy/test-44100Hz-le-1ch-4bytes-rf64.wav": set(),
    "scipy/test-8000Hz-be-3ch-5S-24bit.wav": {"rate", "channels"},
    "scipy/test-8000Hz-le-2ch-1byteu.wav": {"rate"},
    "tinytag/24bit_pcm.wav": {"rate", "silent"},
    "tinytag/32bit_float.wav": {"rate", "silent"},
    "tinytag/8bit_pcm.wav": {"rate"},  # one step of 8 bits, which is audible
    "tinytag/adpcm.wav": {"silent"},  # one step of 16 bits up and down: dither
    "tinytag/empty_file.wav": {"empty"},
    "tinytag/flac1.5sStereo.flac": set(),
    "tinytag/id3_header_with_a_zero_byte.wav": set(),
    "tinytag/incomplete.mp3": {"unreadable"},
    "tinytag/invalid_file.wav": {"unreadable"},
    "tinytag/mp3_audio.wav": {"header", "silent"},
    "tinytag/no_audio_data_uncompressed.wav": {"empty"},
    "tinytag/non_ascii_filename_äää.mp3": {"silent"},
    "tinytag/riff_extra_zero.wav": {"silent"},
    "tinytag/silence-22khz-mono-1s.wav": {"silent"},
    "tinytag/test-tagged.aiff": set(),
    "tinytag/test-tagged.wav": set(),
    "tinytag/test.ogg": set(),
    "tinytag/test.opus": {"silent", "truncated"},  # dither, and truncated at 10,000 bytes
    "tinytag/vbr8.mp3": {"rate", "silent"},
    "tinytag/vbr_xing_header.mp3": set(),
    "tinytag/wav_with_image.wav": {"rate"},
    "torch_audiomentations/bg_short.WAV": set(),
}


def odd_files(real_audio: Path) -> dict[str, Path]:
    folder = real_audio / "odd"
    return {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }


def test_every_unusual_real_file_has_the_expected_problems(real_audio: Path):
    found = {name: problem_names(file) for name, file in odd_files(real_audio).items()}
    assert found == EXPECTED_PROBLEMS


def test_one_recording_in_five_codecs_is_one_group_of_duplicates(real_audio: Path):
    examined = {name: examine_audio_file(file) for name, file in odd_files(real_audio).items()}
    assert find_duplicates(examined) == [
        tuple(sorted(name for name in examined if name.startswith("perch/"))),
        ("tinytag/test-tagged.aiff", "tinytag/test-tagged.wav"),  # the same second of a tone
    ]
