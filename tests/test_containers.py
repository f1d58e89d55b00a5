"""Containers: samples beyond the stated end are decoded, missing samples are reported."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.containers import flac, mp3_frame
from birdmix.audio.containers.find_layout import find_layout
from birdmix.audio.decode import DecodedBlocks, decode_recording
from birdmix.audio.examine import examine_audio_file
from birdmix.audio.segment_reader import read_segment
from birdmix.audio.stream_reader import read_audio_info

RATE = 24_000

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def song(seconds: float = 4.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A sweep in noise, with pauses, so that no two segments are equal."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(t))
    sweep = 0.3 * np.sin(2 * np.pi * (500 + 100 * (seed + 1) * t) * t) * (t % 1 < 0.6)
    return (sweep + noise).astype(np.float32)


def write(file: Path, waveform: np.ndarray, rate: int = RATE, **kind: str) -> bytes:
    container, codec = FORMATS[file.suffix[1:]]
    channels = 1 if waveform.ndim == 1 else waveform.shape[1]
    kind = {"format": container, "subtype": codec, **kind}
    with soundfile.SoundFile(file, "w", rate, channels, **kind) as out:
        for start in range(0, len(waveform), 1 << 14):
            out.write(waveform[start : start + (1 << 14)])
    return file.read_bytes()


def put_bytes(content: bytes, offset: int, new: bytes) -> bytes:
    return content[:offset] + new + content[offset + len(new) :]


def problem_names(file: Path) -> set[str]:
    """Return the names of a file's problems, which must be equal for doctor and predictions."""
    blocks = DecodedBlocks(file, 16_000)
    list(blocks)
    assert tuple(blocks.problems) == examine_audio_file(file).problems
    return {problem.name for problem in blocks.problems}


def assert_reads_as(file: Path, waveform: np.ndarray, names: set[str], atol: float = 1e-3) -> None:
    """Check a file's samples with every reading function, and the names of its problems."""
    whole = decode_recording(file, RATE)
    assert len(whole) == len(waveform) == read_audio_info(file).num_frames
    np.testing.assert_allclose(whole, waveform, atol=atol)
    for start in np.linspace(0, len(whole) - 1000, 7).astype(int).tolist():
        np.testing.assert_allclose(
            read_segment(file, start, 1000, RATE), whole[start:][:1000], atol=1e-5
        )
        low = decode_recording(file, 16_000)[start // 2 :][:500]
        np.testing.assert_allclose(read_segment(file, start // 2, 500, 16_000), low, atol=1e-5)
    assert problem_names(file) == names


SIZES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "0": ("wav", lambda c: put_bytes(c, 40, bytes(4))),
    "0, and 36 for the file": (
        "wav",
        lambda c: put_bytes(put_bytes(c, 40, bytes(4)), 4, struct.pack("<I", 36)),
    ),
    "44 of a file made before it was filled": (
        "wav",
        lambda c: put_bytes(c, 40, struct.pack("<I", 44)) + bytes(100_000),
    ),
    "the first half": ("wav", lambda c: put_bytes(c, 40, struct.pack("<I", 2 * 2 * RATE))),
    "a ds64 of 0": ("rf64", lambda c: put_bytes(c, 20, bytes(24))),
    "0 in RF64 too": (
        "rf64",
        lambda c: put_bytes(put_bytes(c, 20, bytes(24)), 100, bytes(4)),
    ),
    "0 in W64": ("w64", lambda c: put_bytes(c, c.index(b"data") + 16, struct.pack("<Q", 24))),
    "0 in AIFF": (
        "aiff",
        lambda c: put_bytes(
            put_bytes(c, c.index(b"SSND") + 4, struct.pack(">I", 8)),
            c.index(b"COMM") + 10,
            bytes(4),
        ),
    ),
    "0 in CAF": ("caf", lambda c: put_bytes(c, c.index(b"data") + 4, struct.pack(">q", 4))),
    "0 in AU": ("au", lambda c: put_bytes(c, 8, bytes(4))),
}


@pytest.mark.parametrize("size", SIZES)
def test_samples_after_the_stated_end_are_read(tmp_path: Path, size: str):
    suffix, broken = SIZES[size]
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(broken(write(file, song())))
    assert_reads_as(file, song(), {"header"})


def test_a_zero_byte_of_the_last_sample_is_not_taken_for_padding(tmp_path: Path):
    file = tmp_path / "x.wav"
    waveform = song()
    waveform[-1] = 3 / 2**15  # its high byte is 0
    file.write_bytes(put_bytes(write(file, waveform), 40, struct.pack("<I", 44)) + bytes(100_001))
    assert_reads_as(file, waveform, {"header"})
    assert "followed by 2.08 s of zeros" in str(examine_audio_file(file).problems[0])


def test_chunks_after_the_samples_are_not_read_as_samples(tmp_path: Path):
    file = tmp_path / "x.wav"
    content = write(file, song())
    for chunk in (b"LIST" + struct.pack("<I", 4) + b"INFO", b"abcd" + struct.pack("<I", 30_000)):
        file.write_bytes(content + chunk.ljust(30_008 if chunk[:1] == b"a" else 12, b"\1"))
        assert_reads_as(file, song(), set())
    file.write_bytes(file.read_bytes() + bytes(20_000))  # and zeros after them
    assert_reads_as(file, song(), set())


def test_unread_bytes_after_the_samples_are_reported(tmp_path: Path):
    file = tmp_path / "x.wav"
    file.write_bytes(write(file, song()) + b"\xfe\xfd\xfc" * 100)
    assert_reads_as(file, song(), {"surplus"})
    assert "300 bytes after the samples" in str(examine_audio_file(file).problems[0])


@pytest.mark.parametrize("suffix", ["wav", "rf64"])
def test_a_wav_file_beyond_4_gib_is_read_to_its_end(tmp_path: Path, suffix: str):
    """The header states 60 s, modulo 32 bits; most of the file is sparse."""
    file, minute = tmp_path / f"x.{suffix}", 60 * RATE
    content = write(file, song(60))
    head = content[: len(content) - 2 * minute]
    if suffix == "rf64":
        head = put_bytes(head, 20, struct.pack("<3Q", 0, 2 * minute, minute))
    with file.open("wb") as out:
        out.write(head)
        out.seek(1 << 32, 1)
        out.write(content[len(head) :])
    assert read_audio_info(file).num_frames == (1 << 31) + minute
    end = read_segment(file, (1 << 31) + minute - 3 * RATE, 3 * RATE, RATE)
    np.testing.assert_allclose(end, song(60)[-3 * RATE :], atol=1e-3)
    (problem,) = find_layout(file).problems
    assert problem == ("header", "header states 60.00 s, 89538.49 s are read")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_a_wav_file_beyond_4_gib_is_decoded_in_bounded_memory(tmp_path: Path):
    import resource

    file, rate = tmp_path / "x.wav", 192_000
    soundfile.write(file, np.zeros((rate, 2), np.float32), rate, subtype="FLOAT")
    with file.open("r+b") as out:
        out.truncate(file.stat().st_size + (1 << 32))
        out.seek(-8 * rate, 2)
        out.write(np.full(2 * rate, 0.5, np.float32).tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks = DecodedBlocks(file, 16_000, block_seconds=5)
    peaks = [float(np.abs(block).max(initial=0)) for block in blocks]
    assert max(peaks[:-3]) == 0 and max(peaks) > 0.4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_an_mp3_of_variable_rate_without_a_count_is_read_to_its_end(tmp_path: Path):
    """libsndfile assumes the first frame's bit rate for all frames: here that of a loud one."""
    file = tmp_path / "x.mp3"
    waveform = song(20) * np.repeat([1, 0], 10 * RATE).astype(np.float32)
    content = write(file, waveform, bitrate_mode="VARIABLE")
    first = mp3_frame.parse_frame_header(content[:4])
    assert first is not None
    for front in (b"", b"ID3\4\0\0\0\1\0\0" + bytes(1 << 14)):
        file.write_bytes(front + content[first.length :])
        num_frames = read_audio_info(file).num_frames
        # Encoder and decoder add up to three frames, with 529 samples of the decoder's delay.
        assert 0 <= num_frames - len(waveform) <= 3 * 576
        assert len(decode_recording(file, RATE)) == num_frames
        start = num_frames - 5000
        end = decode_recording(file, RATE)[start:][:4000]
        np.testing.assert_allclose(read_segment(file, start, 4000, RATE), end, atol=1e-5)
        assert problem_names(file) == set()


@pytest.mark.parametrize("suffix", FORMATS)
def test_concatenated_files_are_read_one_after_the_other(tmp_path: Path, suffix: str):
    file = tmp_path / f"x.{suffix}"
    contents = [write(file, song(seconds, seed)) for seed, seconds in enumerate((3, 2, 1.5))]
    wholes = []
    for content in contents:
        file.write_bytes(content)
        wholes.append(decode_recording(file, RATE))
    file.write_bytes(b"".join(contents))
    assert_reads_as(file, np.concatenate(wholes), {"streams"}, atol=1e-6)
    file.write_bytes(2 * contents[0])  # equal lengths and stream serials
    assert_reads_as(file, np.concatenate(2 * wholes[:1]), {"streams"}, atol=1e-6)


def test_concatenated_files_may_differ_in_rate_channels_and_container(tmp_path: Path):
    one, two, file = tmp_path / "1.wav", tmp_path / "2.flac", tmp_path / "x.wav"
    stereo = np.stack([song(2, rate=48_000), song(2, rate=48_000)], axis=1)
    file.write_bytes(write(one, song(3)) + write(two, stereo, 48_000))
    whole = decode_recording(file, RATE)
    assert len(whole) == 5 * RATE
    np.testing.assert_allclose(whole[3 * RATE :], decode_recording(two, RATE), atol=1e-3)
    np.testing.assert_allclose(
        read_segment(file, 4 * RATE, 5000, RATE), whole[4 * RATE :][:5000], atol=1e-6
    )
    assert problem_names(file) == {"streams"}


@pytest.mark.parametrize("count", [2, 3, 7, 12, 50])
def test_any_number_of_equal_flac_streams_is_found(tmp_path: Path, count: int):
    file = tmp_path / "x.flac"
    file.write_bytes(count * write(file, song(6)))
    assert read_audio_info(file).num_frames == count * 6 * RATE


def pages(content: bytes) -> list[bytes]:
    """Split an OGG file into its pages."""
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_missing_ogg_pages_are_replaced_by_silence_of_their_length(
    tmp_path: Path, suffix: str, fault: str
):
    file = tmp_path / f"x.{suffix}"
    all_pages = pages(write(file, song(12)))
    whole = decode_recording(file, RATE)
    for number in (4, 7):
        all_pages[number] = (
            put_bytes(all_pages[number], 500, b"\1\2\3") if fault == "damaged" else b""
        )
    file.write_bytes(b"".join(all_pages))
    decoded = decode_recording(file, RATE)
    assert len(decoded) == len(whole) == read_audio_info(file).num_frames
    assert problem_names(file) == {"gap"}
    gaps = [str(p) for p in examine_audio_file(file).problems if p.name == "gap"]
    assert len(gaps) == 2
    silent = np.flatnonzero(decoded == 0)
    assert 0.5 * RATE < len(silent) < 4 * RATE
    after = int(silent[-1]) + RATE  # Opus needs some time to converge
    np.testing.assert_allclose(decoded[after:], whole[after:], atol=1e-4)
    start = int(silent[0]) - 1000
    np.testing.assert_allclose(
        read_segment(file, start, 3000, RATE), decoded[start:][:3000], atol=1e-5
    )


def test_segments_of_a_flac_file_after_a_large_tag_are_read(tmp_path: Path):
    file = tmp_path / "x.flac"
    tag = b"ID3\4\0\0" + bytes([0, 16, 0, 0]) + bytes(16 << 14)
    file.write_bytes(tag + write(file, song()))
    assert_reads_as(file, song(), set())


def test_a_flac_file_has_the_samples_of_its_frames_whatever_its_header_states(tmp_path: Path):
    file = tmp_path / "x.flac"
    content = write(file, song())
    for number, names in ((0, set()), (2 * RATE, {"header"}), (9 * RATE, {"truncated"})):
        file.write_bytes(put_bytes(content, 22, number.to_bytes(4, "big")))
        assert_reads_as(file, song(), names)


@pytest.mark.parametrize(
    ("header", "begin"),
    [("fff8c90805", 5 * 4096), ("fff8c908e18e88", 5000 * 4096), ("fff9c908e18e88", 5000)],
)
def test_flac_frame_headers_give_the_first_sample(header: str, begin: int):
    """Frame numbers are coded as in UTF-8, and count blocks or samples (RFC 9639, 9.1)."""
    head = bytes.fromhex(header)
    stream = flac._Stream(0, 0, RATE, 0, 4096, (head[1], 9, 8))
    frame = flac._parse_frame_header(head + bytes([flac._CHECKSUMS.sum(head)]), stream)
    assert frame is not None and (frame.begin, frame.num_samples) == (begin, 4096)
    assert flac._parse_frame_header(head + bytes(1), stream) is None


def test_samples_before_a_decoding_error_are_kept(tmp_path: Path):
    file = tmp_path / "x.flac"
    content = write(file, song())
    whole = decode_recording(file, RATE)
    file.write_bytes(content[: len(content) * 3 // 5] + b"\xaa" * 50)
    decoded = decode_recording(file, RATE)
    assert len(decoded) % 4096 == 0  # samples per frame, except the last one
    assert len(decoded) > 0.5 * len(whole)
    np.testing.assert_array_equal(decoded, whole[: len(decoded)])
    assert problem_names(file) == {"truncated"}


def test_a_damaged_flac_frame_is_replaced_by_silence_of_its_length(tmp_path: Path):
    file = tmp_path / "x.flac"
    content = write(file, song(8))
    whole = decode_recording(file, RATE)
    for place in (len(content) // 3, len(content) * 2 // 3):
        content = put_bytes(content, place, b"\xaa" * 50)
    file.write_bytes(content)
    decoded = decode_recording(file, RATE)
    assert len(decoded) == len(whole)
    missing = decoded == 0
    assert 2 * 4096 <= missing.sum() <= 6 * 4096
    np.testing.assert_array_equal(decoded[~missing], whole[~missing])
    assert problem_names(file) == {"gap"}
    assert len(examine_audio_file(file).problems) == 2
    first = int(np.flatnonzero(missing)[0])
    for start in (first - 1000, first + 100, 7 * RATE):
        np.testing.assert_allclose(
            read_segment(file, start, 9000, RATE), decoded[start:][:9000], atol=1e-6
        )


def test_an_mp3_of_a_few_frames_followed_by_other_bytes_is_read(tmp_path: Path):
    file = tmp_path / "x.mp3"
    content = write(file, song())
    end = 0
    for _ in range(6):
        end += mp3_frame.frame_length_in_bytes(content[end : end + 4])
    file.write_bytes(content[:end] + np.random.default_rng(0).bytes(50_000))
    decoded = decode_recording(file, RATE)
    assert len(decoded) == 5 * 576 - 1105  # delay of encoder and decoder
    np.testing.assert_allclose(decoded[:1000], song()[:1000], atol=0.1)
    assert problem_names(file) == {"truncated"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.wav", {"subtype": "GSM610"}),
        ("x.wav", {"subtype": "G721_32"}),
        ("x.au", {"subtype": "G721_32"}),
    ],
)
def test_segments_of_codecs_without_seeking_are_decoded_from_the_start(
    tmp_path: Path, name: str, kind: dict
):
    file = tmp_path / name
    write(file, song(10), **kind)
    for rate in (RATE, 16_000):
        whole = decode_recording(file, rate)
        for start in (0, 5000, len(whole) - 700, len(whole) + 5):
            segment = read_segment(file, start, 1000, rate)
            np.testing.assert_allclose(segment, whole[start : start + 1000], atol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_intact_files_are_decoded_unchanged(tmp_path: Path, suffix: str):
    file = tmp_path / f"x.{suffix}"
    write(file, song(10))
    layout = find_layout(file)
    assert layout.is_plain and not layout.problems


@pytest.mark.parametrize("suffix", FORMATS)
def test_any_damage_is_reported_as_a_problem_of_the_recording(tmp_path: Path, suffix: str):
    file = tmp_path / f"x.{suffix}"
    content = write(file, song(1))
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(content)
        for place in rng.integers(0, rng.choice([60, len(content)]), 3):
            broken[place] = rng.integers(256)
        file.write_bytes(broken[: rng.integers(1, len(broken)) if rng.random() < 0.3 else None])
        examination = examine_audio_file(file)
        failed = {p.name for p in examination.problems} & {"unreadable", "empty"}
        assert bool(failed) == (examination.seconds == 0)
