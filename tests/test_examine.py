"""Examining sound files: every oddity has its name, one sound in any format is one sound."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio import duplicates
from birdmix.audio.duplicates import Prints, Sound, find_duplicates
from birdmix.audio.examine import ENCODINGS, examine
from birdmix.audio.listing import SUFFIXES

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


def verdict(file: Path) -> set[str]:
    return {problem.name for problem in examine(file).problems}


def channels(*gains: float) -> np.ndarray:
    return np.stack([gain * scene(0) for gain in gains], axis=1)


def test_a_recording_without_oddities_has_no_problem(tmp_path: Path):
    for suffix, encoding in FORMATS.items():
        examination = examine(write(tmp_path / f"x.{suffix}", scene(0), encoding))
        assert examination.problems == ()
        assert examination.info.encoding == encoding
        assert examination.seconds == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    "problem",
    ["silent", "clipped", "not-finite", "absurd-level", "dc-offset", "channels-cancel"],
)
def test_odd_samples_are_told(tmp_path: Path, problem: str):
    waveform = {
        "silent": np.zeros(RATE),
        "clipped": np.sign(scene(0)),
        "not-finite": np.where(np.arange(5 * RATE) == 7, np.nan, scene(0)),
        "absurd-level": np.where(np.arange(5 * RATE) == 7, 1e20, scene(0)),
        "dc-offset": scene(0) + 0.1,
        "channels-cancel": channels(1, -0.9),
    }[problem]
    assert verdict(write(tmp_path / "x.wav", waveform, "WAV/FLOAT")) == {problem}


def test_dither_is_silence_unless_the_codec_holds_what_is_finer(tmp_path: Path):
    dither = np.random.default_rng(0).integers(-1, 2, RATE) / 2**15
    assert verdict(write(tmp_path / "x.wav", dither)) == {"silent"}
    assert verdict(write(tmp_path / "x.wav", dither, "WAV/PCM_24")) == set()


def test_a_constant_is_an_offset_and_a_loud_recording_may_lean(tmp_path: Path):
    assert verdict(write(tmp_path / "x.wav", np.full(RATE, 0.5))) == {"dc-offset"}
    assert verdict(write(tmp_path / "x.wav", scene(0) + scene(0).std() / 4)) == set()


def test_channels_that_have_nothing_in_common_do_not_cancel(tmp_path: Path):
    apart = np.stack([scene(0), scene(1)], axis=1)
    assert verdict(write(tmp_path / "x.wav", apart)) == set()


@pytest.mark.parametrize(
    ("gains", "hiss", "said"),
    [
        ((1, 0), (0, 0), "channel 2 without sound, others have some; try --channel 1"),
        ((0, 0, 1), (0, 0, 0), "channels 1, 2 without sound, others have some; try --channel 3"),
        ((0.001, 0.001), (0, 0.05), "channel 2 with a noise 6[0-9] dB apart from the others'"),
        ((1, 1, 1), (0.2, 0, 0), "channel 1 with a noise 2[0-9] dB apart .* try --channel 2"),
        ((1, 1), (0, 0), ""),
        ((1, 0.4), (0, 0.005), ""),  # another gain, and a little hiss
    ],
)
def test_a_channel_that_is_dead_or_unlike_the_others_is_told(tmp_path: Path, gains, hiss, said):
    noise = np.random.default_rng(1).normal(0, 1, (5 * RATE, len(gains)))
    found = examine(write(tmp_path / "x.wav", channels(*gains) + hiss * noise)).problems
    told = [problem.detail for problem in found if problem.name == "channels-differ"]
    assert len(told) == bool(said) and all(re.match(said, each) for each in told), told
    for suffix in ("mp3", "ogg") if len(gains) == 2 else ():  # codecs that join channels
        file = write(tmp_path / f"x.{suffix}", channels(*gains) + hiss * noise, FORMATS[suffix])
        names = {problem.name for problem in examine(file).problems}
        assert ("channels-differ" in names) is bool(said)


def test_wind_and_a_bird_at_one_of_two_microphones_do_not_make_it_unlike(tmp_path: Path):
    near, rng = channels(1, 1), np.random.default_rng(1)
    near[:, 0] += 0.5 * np.sin(np.arange(len(near)) * 2 * np.pi * 60 / RATE)  # 60 Hz
    near[:, 1] += np.where(rng.random(5)[:, None] < 0.5, 0.3, 0).repeat(RATE, 1).ravel() * np.sin(
        np.arange(len(near)) * 2 * np.pi * 4000 / RATE
    )
    assert verdict(write(tmp_path / "x.wav", near)) == set()


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg", "opus", "mp3"])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, suffix: str):
    encoding = {**FORMATS, "aiff": "AIFF/PCM_16"}[suffix]
    file = write(tmp_path / f"x.{suffix}", scene(0), encoding)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    assert verdict(file) == {"truncated"}


def test_a_flac_that_holds_more_than_its_header_says_is_told(tmp_path: Path):
    file = write(tmp_path / "x.flac", scene(0), "FLAC/PCM_16")
    content = bytearray(file.read_bytes())
    content[22:26] = (3 * RATE).to_bytes(4, "big")  # the low bits of the count in STREAMINFO
    file.write_bytes(content)
    assert verdict(file) == {"header"}


def test_a_wav_file_from_a_pipe_is_not_cut_off(tmp_path: Path):
    file = write(tmp_path / "x.wav", scene(0))
    content = file.read_bytes()
    file.write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])
    assert verdict(file) == set()


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
def test_odd_headers_are_told(tmp_path: Path, problem: str, name: str, encoding: str, rate: int):
    assert verdict(write(tmp_path / name, scene(0), encoding, rate)) == {problem}


def test_more_than_two_channels_are_told(tmp_path: Path):
    assert verdict(write(tmp_path / "x.wav", channels(1, 1, 1))) == {"channels"}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("x.ogg", "OGG/OPUS"),
        ("x.WAV", "WAVEX/FLOAT"),
        ("x.wav", "RF64/PCM_24"),
        ("x.wav", "WAV/MS_ADPCM"),
    ],
)
def test_a_container_may_hold_any_codec(tmp_path: Path, name: str, encoding: str):
    assert "extension" not in verdict(write(tmp_path / name, scene(0), encoding))


def test_every_suffix_that_is_taken_for_sound_has_its_encodings():
    assert set(ENCODINGS) == SUFFIXES


def test_what_yields_no_samples_has_one_problem_and_no_prints(tmp_path: Path):
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
        examination = examine(tmp_path / name)
        assert [problem.name for problem in examination.problems] == [problem], name
        assert examination.problems[0].detail
        assert (examination.seconds, examination.digest, examination.fingerprint) == (0, None, None)


def test_samples_beyond_all_bounds_are_told_quietly(tmp_path: Path):
    waveform = np.stack([scene(0) * 1e38, np.full(5 * RATE, -np.inf)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verdict(write(tmp_path / "two.wav", waveform, "WAV/FLOAT")) == {"unreadable"}
        one = verdict(write(tmp_path / "one.wav", waveform[:, 0], "WAV/FLOAT"))
        assert one == {"unreadable"}  # nothing is left of it


def test_integers_that_nobody_scaled_are_clipped_and_not_absurd(tmp_path: Path):
    assert verdict(write(tmp_path / "x.wav", scene(0) * 2**31, "WAV/FLOAT")) == {"clipped"}


def prints(waveform: np.ndarray, cuts: list[int]) -> Sound:
    taken = Prints()
    for piece in np.split(waveform, cuts):
        taken.add(piece)
    return taken.sound()


def test_prints_do_not_depend_on_how_a_recording_is_cut_into_blocks():
    waveform = scene(0, 60)
    cuts = np.random.default_rng(0).integers(0, len(waveform), 40)
    whole, pieces = prints(waveform, []), prints(waveform, sorted(cuts.tolist()))
    assert whole.digest == pieces.digest
    np.testing.assert_allclose(whole.fingerprint, pieces.fingerprint, atol=1e-3)


def test_prints_of_a_long_recording_take_no_more_room():
    taken, half_a_minute = Prints(), scene(0, 20)
    for _ in range(20):
        taken.add(half_a_minute)
        assert len(taken._columns) <= 2048
        assert len(taken._waiting) <= 32


def test_what_does_not_change_has_no_fingerprint():
    t = np.arange(5 * duplicates.RATE) / duplicates.RATE
    for waveform in (0 * t, 0 * t + 0.5, 0.5 * np.sin(2 * np.pi * 1000 * t), scene(0)[:8000]):
        assert prints(waveform.astype(np.float32), []).fingerprint is None


@pytest.mark.parametrize(
    ("seconds", "suffixes"), [(5, FORMATS), (10, FORMATS), (60, ("wav", "ogg"))]
)
def test_copies_in_other_formats_are_found_and_other_scenes_are_not(
    tmp_path: Path, seconds: int, suffixes: Iterable[str]
):
    for suffix in suffixes:
        write(tmp_path / f"copy.{suffix}", scene(0, seconds), FORMATS[suffix])
    # An encoder that does not write its delay down makes the whole recording late.
    late = np.concatenate([np.zeros(int(0.05 * RATE)), scene(0, seconds)])
    write(tmp_path / "late.mp3", 0.5 * late, "MP3/MPEG_LAYER_III")
    for seed in (1, 2):
        write(tmp_path / f"{seed}.wav", scene(seed, seconds))
    write(tmp_path / "part.wav", scene(0, seconds)[: -RATE // 2])
    examined = {file.name: examine(file) for file in tmp_path.iterdir()}
    copies = sorted([*(f"copy.{suffix}" for suffix in suffixes), "late.mp3"])
    assert find_duplicates(examined) == [tuple(copies)]


def test_equal_samples_are_equal_sounds_down_to_one_step_of_16_bits(tmp_path: Path):
    short = np.round(scene(0)[: RATE // 2] * 32768) / 32768  # too short for a fingerprint
    other = short.copy()
    other[1000] += 30 / 32768
    write(tmp_path / "a.wav", short)
    write(tmp_path / "b.flac", short, "FLAC/PCM_24")
    write(tmp_path / "c.wav", other)
    examined = {file.name: examine(file) for file in tmp_path.iterdir()}
    assert find_duplicates(examined) == [("a.wav", "b.flac")]


def test_silences_are_no_copies_of_each_other(tmp_path: Path):
    files = [write(tmp_path / f"{name}.wav", np.zeros(2 * RATE)) for name in "ab"]
    assert find_duplicates({file.name: examine(file) for file in files}) == []


def test_two_recordings_of_one_steady_noise_are_not_alike():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 160_000)).cumsum(axis=1)
    steady = np.diff(noise, axis=1) + 0.01 * noise[:, 1:]
    sounds = {str(i): prints(row.astype(np.float32), []) for i, row in enumerate(steady)}
    assert find_duplicates(sounds) == []


def test_among_many_recordings_all_pairs_of_one_duration_are_compared(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(duplicates, "_TILE", 7)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(25, 100))[rng.integers(0, 25, 200)].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seconds = rng.integers(0, 4, 200).astype(float)
    sounds = {f"{i:03}": Sound(seconds[i], str(i), vectors[i]) for i in range(200)}
    expected: dict[tuple[float, bytes], list[str]] = {}
    for path, sound in sounds.items():
        expected.setdefault((sound.seconds, sound.fingerprint.tobytes()), []).append(path)
    groups = sorted(tuple(group) for group in expected.values() if len(group) > 1)
    assert find_duplicates(sounds) == groups


def test_of_nothing_there_are_no_duplicates():
    assert find_duplicates({}) == []


#: What each file of ``odd`` should be told to be, from the notes of its manifest; {} is sound.
VERDICTS: dict[str, set[str]] = {
    "audioread/test-2.mp3": set(),
    "flac/04 - wrong number of channels.flac": {"unreadable"},
    "flac/05 - wrong total number of samples.flac": {"header"},
    "flac/11 - incorrect metadata block length.flac": {"unreadable"},
    "flac/45 - no total number of samples set.flac": set(),  # says that it does not know
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
    "tinytag/8bit_pcm.wav": {"rate"},  # one step, but of 8 bits: that is heard
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
    "tinytag/test.opus": {"silent", "truncated"},  # dither, and cut at 10,000 bytes
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


def test_every_odd_file_is_called_what_it_is(real_audio: Path):
    assert {name: verdict(file) for name, file in odd_files(real_audio).items()} == VERDICTS


def test_one_clip_in_five_codecs_is_one_sound_and_silences_are_none(real_audio: Path):
    examined = {name: examine(file) for name, file in odd_files(real_audio).items()}
    assert find_duplicates(examined) == [
        tuple(sorted(name for name in examined if name.startswith("perch/"))),
        ("tinytag/test-tagged.aiff", "tinytag/test-tagged.wav"),  # the same second of a tone
    ]
