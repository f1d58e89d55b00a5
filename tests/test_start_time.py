"""Start times of recordings: metadata, file names, time zones."""

import re
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.examine import examine_audio_file
from birdmix.audio.start_time import (
    TimeZoneConverter,
    add_elapsed_seconds,
    read_start_datetime,
    read_start_time,
)
from birdmix.recordings.metadata import parse_start_time_from_name

COMMENT = "Recorded at 05:30:00 14/05/2024 (UTC{}) by AudioMoth 24F319045F5C0C1D at medium gain"


def chunk(name: str, body: bytes, size: int | None = None, pad: bytes = b"\0") -> bytes:
    size = len(body) if size is None else size
    return name.encode() + struct.pack("<I", size) + body + pad * (len(body) % 2)


def info(comment: str) -> bytes:
    parts = chunk("IART", b"AudioMoth") + chunk("ICMT", comment.encode() + b"\0" * 99)
    return chunk("LIST", b"INFO" + parts)


def guano(timestamp: str) -> bytes:
    return chunk("guan", f"GUANO|Version: 1.0\nMake: x\nTimestamp: {timestamp}\nTE: 1".encode())


def wamd(timestamp: str) -> bytes:
    entries = ((0, b"\1\0"), (1, b"SM4"), (5, timestamp.encode()), (0xFFFF, b"\0"))
    return chunk("wamd", b"".join(struct.pack("<HI", n, len(body)) + body for n, body in entries))


def bext(date: str, time: str) -> bytes:
    return chunk("bext", bytes(320) + f"{date}{time}".encode() + bytes(256))


SAMPLES = chunk("data", bytes(2000))


def wav(folder: Path, *chunks: bytes, name: str = "x.wav", kind: str = "RIFF") -> Path:
    body = b"WAVE" + chunk("fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    body += b"".join(chunks)
    file = folder / name
    file.write_bytes(kind.encode() + struct.pack("<I", len(body)) + body)
    return file


def start_time(file: Path) -> str:
    moment = read_start_datetime(file)
    return "" if moment is None else moment.isoformat()


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (COMMENT.format(""), "2024-05-14T05:30:00+00:00"),
        (COMMENT.format("+2"), "2024-05-14T05:30:00+02:00"),
        (COMMENT.format("-3:30"), "2024-05-14T05:30:00-03:30"),
        (COMMENT.format("-0:30"), "2024-05-14T05:30:00-00:30"),
        (COMMENT.format("+12:45"), "2024-05-14T05:30:00+12:45"),
        ("Recorded at 19:17:30 06/04/2018 by AudioMoth 0FE0", "2018-04-06T19:17:30+00:00"),
        ("Recorded at 19:17:30.125 06/04/2018 (UTC) during deploy", "2018-04-06T19:17:30+00:00"),
        ("Recorded at 25:17:30 06/04/2018 (UTC) by AudioMoth", ""),
        ("Recorded by Ann, 06/04/2018", ""),
    ],
)
def test_start_time_is_read_from_the_comment_of_an_audiomoth(
    tmp_path: Path, comment: str, expected: str
):
    assert start_time(wav(tmp_path, info(comment), SAMPLES)) == expected


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2024-05-14T05:30:00", "2024-05-14T05:30:00"),
        ("2024-05-14T05:30:00Z", "2024-05-14T05:30:00+00:00"),
        ("2024-05-14 05:30:00-06:00", "2024-05-14T05:30:00-06:00"),
        ("2024-05-14T05:30:00.125+02:00\r", "2024-05-14T05:30:00.125000+02:00"),
        ("0001-01-01T00:00:00+02:00", ""),  # a year that no zone can be applied to
        ("2024-05-14", ""),
        ("yesterday at 5:30", ""),
    ],
)
def test_start_time_is_read_from_guano_after_the_samples(
    tmp_path: Path, timestamp: str, expected: str
):
    assert start_time(wav(tmp_path, SAMPLES, guano(timestamp))) == expected


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2014-04-02 22:59:14-05:00", "2014-04-02T22:59:14-05:00"),
        ("2014-04-02 22:59:14.000", "2014-04-02T22:59:14"),
        ("2014-04-02 22:59:14", "2014-04-02T22:59:14"),
        ("2014-04-02", ""),
        ("", ""),
    ],
)
def test_wildlife_acoustics_chunks_are_read(tmp_path: Path, timestamp: str, expected: str):
    assert start_time(wav(tmp_path, SAMPLES, wamd(timestamp))) == expected


def test_a_damaged_wildlife_acoustics_chunk_gives_no_start_time(tmp_path: Path):
    complete = wamd("2014-04-02 22:59:14")[8:]
    for end in range(len(complete)):
        assert start_time(wav(tmp_path, SAMPLES, chunk("wamd", complete[:end]))) in (
            "",
            "2014-04-02T22:59:14",
        )
    huge = struct.pack("<HI", 1, 0xFFFFFFFF)
    assert start_time(wav(tmp_path, SAMPLES, chunk("wamd", huge))) == ""


def test_bext_is_used_if_nothing_else_states_the_start_time(tmp_path: Path):
    exported = bext("2024-05-14", "05:30:00")
    assert start_time(wav(tmp_path, exported, SAMPLES)) == "2024-05-14T05:30:00"
    assert (
        start_time(wav(tmp_path, exported, SAMPLES, name="20240501_040000.wav"))
        == "2024-05-01T04:00:00"
    )
    assert start_time(wav(tmp_path, bext("0000-00-00", "00:00:00"), SAMPLES)) == ""


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk("junk", b"odd"), guano("2024-05-14T05:30:00")),
        (chunk("junk", b"odd", pad=b""), guano("2024-05-14T05:30:00")),
        (chunk("LIST", b"adtl" + b"labl"), SAMPLES, guano("2024-05-14T05:30:00")),
        (chunk("LIST", b"INFO" + b"ICMT\xff\xff"), guano("2024-05-14T05:30:00")),
        (guano("2024-05-14T05:30:00"), chunk("data", b"cut short", size=1 << 30)),
        (guano("2024-05-14T05:30:00"), chunk("data", bytes(99), size=0)),
        (guano("2024-05-14T05:30:00"), chunk("data", bytes(99), size=0xFFFFFFFF)),
    ],
)
def test_unusual_or_damaged_chunks_do_not_hide_other_chunks(tmp_path: Path, chunks: tuple):
    assert start_time(wav(tmp_path, *chunks)) == "2024-05-14T05:30:00"


def test_samples_of_more_than_4_gb_are_skipped(tmp_path: Path):
    num_bytes = 5 << 30
    ds64 = chunk("ds64", struct.pack("<QQQI", num_bytes + 100, num_bytes, 0, 0))
    file = wav(tmp_path, ds64, chunk("data", b"", size=0xFFFFFFFF), kind="RF64")
    with file.open("r+b") as stream:
        stream.seek(num_bytes, 2)  # a hole: nothing is stored
        stream.write(guano("2024-05-14T05:30:00"))
    assert start_time(file) == "2024-05-14T05:30:00"


def test_a_chunk_size_beyond_the_file_ends_at_the_end_of_the_file(tmp_path: Path):
    ds64 = chunk("ds64", b"\xff" * 28)
    file = wav(tmp_path, guano("2024-05-14T05:30:00"), ds64, chunk("data", b"", size=0xFFFFFFFF))
    assert start_time(file) == "2024-05-14T05:30:00"


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", b"no sound", b"fLaC\0"])
def test_start_time_of_an_unreadable_file_is_read_from_its_name(tmp_path: Path, content: bytes):
    file = tmp_path / "SITE_20240514_053000.wav"
    file.write_bytes(content)
    assert start_time(file) == "2024-05-14T05:30:00"
    assert start_time(tmp_path / "missing.wav") == ""


def test_start_time_is_read_from_the_comment_of_a_flac_file(tmp_path: Path):
    file = tmp_path / "x.flac"
    with soundfile.SoundFile(file, "w", 8000, 1) as sound:
        sound.comment = COMMENT.format("+2")
        sound.write(np.zeros(800))
    assert start_time(file) == "2024-05-14T05:30:00+02:00"
    try:
        file = file.rename(tmp_path / "caf\udce9.flac")  # not UTF-8
    except OSError:
        pytest.skip("this file system does not allow such a name")
    assert start_time(file) == "2024-05-14T05:30:00+02:00"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240501_053000.WAV", "2024-05-01T05:30:00"),
        ("20240501_053000T.WAV", "2024-05-01T05:30:00"),
        ("SMU04321_20240501_053000.wav", "2024-05-01T05:30:00"),
        ("S4A01234_20190612_043000_000.wav", "2019-06-12T04:30:00"),
        ("BC2026_Test_0001_S05_20250227_010002.ogg", "2025-02-27T01:00:02"),
        ("H02_20230420_074000.ogg", "2023-04-20T07:40:00"),
        ("5B07FAC0.WAV", "2018-05-25T12:00:00+00:00"),
        ("5B07FAC0_a.WAV", ""),
        ("F00DCAFE.wav", ""),  # 2097
        ("61234567.wav", ""),  # more likely a number than a time
        ("61234567.WAV", ""),  # the A of the suffix is not a digit
        ("20240501.WAV", ""),
        ("20200504T053000+1000.flac", "2020-05-04T05:30:00+10:00"),
        ("20200504T053000-0330_REC.flac", "2020-05-04T05:30:00-03:30"),
        ("20200504T053000Z.wav", "2020-05-04T05:30:00+00:00"),
        ("S20240815T130411.7+1000_E20240815T132314.7+1000.wav", "2024-08-15T13:04:11+10:00"),
        ("20240501_053000-0001.wav", "2024-05-01T05:30:00"),
        ("20240501_053000-2.wav", "2024-05-01T05:30:00"),
        ("2782_SSW_20170701.ogg", ""),
        ("20240401_AM12_20240501_053000.WAV", "2024-05-01T05:30:00"),
        ("20240501_996000.wav", ""),
        ("SM304472_0+1_20181219$100000.wav", "2018-12-19T10:00:00"),
        (
            "S20210205T035946676+1000_E20210205T045946676+1000_+12.34567+78.98102.wav",
            "2021-02-05T03:59:46+10:00",
        ),
        ("201905 8T020000+1000_REC.flac", "2019-05-08T02:00:00+10:00"),
        ("201905 8_020000.flac", ""),
        ("2019-06-12_04-30-00.wav", "2019-06-12T04:30:00"),
        ("site-4 2019-06-12T04:30:00Z.wav", "2019-06-12T04:30:00+00:00"),
        ("XC134874.ogg", ""),
    ],
)
def test_start_time_is_read_from_file_names(tmp_path: Path, name: str, expected: str):
    assert start_time(tmp_path / name) == expected
    if expected:  # metadata tables give the same time, without a zone
        assert parse_start_time_from_name(f"site/{name}") == read_start_datetime(
            tmp_path / name
        ).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("name", "comment"),
    [
        ("19700101_000012.WAV", None),
        ("x.wav", "Recorded at 00:00:12 01/01/1970 (UTC) by AudioMoth"),
        ("x.wav", "Recorded at 19:00:12 31/12/1969 (UTC-5) by AudioMoth"),
        ("19700103_043000.WAV", "Recorded at 04:30:00 03/01/1970 (UTC) by AudioMoth"),
    ],
)
def test_a_clock_that_was_not_set_is_reported_and_not_used(
    tmp_path: Path, name: str, comment: str | None
):
    file = wav(tmp_path, *([info(comment)] if comment else []), SAMPLES, name=name)
    reading = read_start_time(file)
    assert reading.moment is None and parse_start_time_from_name(name) is None
    assert re.fullmatch(r"the clock was not set: 19(70-01-0[13]|69-12-31)T.*", reading.problem)
    assert [p.detail for p in examine_audio_file(file).problems if p.name == "clock"] == [
        reading.problem
    ]


def test_a_valid_time_is_used_where_another_clock_was_not_set(tmp_path: Path):
    unset = info("Recorded at 00:00:12 01/01/1970 (UTC) by AudioMoth")
    corrected = wav(tmp_path, unset, SAMPLES, name="20240501_053000.WAV")
    assert read_start_time(corrected) == (datetime(2024, 5, 1, 5, 30), "")
    stated = wav(tmp_path, guano("2024-05-01T05:30:00"), SAMPLES, name="19700101_000012.WAV")
    assert read_start_time(stated) == (datetime(2024, 5, 1, 5, 30), "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240514_053000.WAV", "2024-05-14T05:30:00+02:00"),  # the same, with its zone
        ("20240514_033000.WAV", "2024-05-14T05:30:00+02:00"),  # in UTC
        ("20240401_120000_at_20240514_053000.WAV", "2024-05-14T05:30:00+02:00"),
        ("20240601_053000.WAV", "2024-06-01T05:30:00"),  # a corrected name
        ("20240601.WAV", "2024-05-14T05:30:00+02:00"),
    ],
)
def test_metadata_takes_precedence_over_names_within_a_day(
    tmp_path: Path, name: str, expected: str
):
    assert start_time(wav(tmp_path, info(COMMENT.format("+2")), SAMPLES, name=name)) == expected


def converted(file: Path, *zones: str | None) -> str:
    return TimeZoneConverter(*zones).convert(read_start_datetime(file)).isoformat()


def test_clocks_without_a_zone_use_the_zone_of_the_options(tmp_path: Path):
    naive = tmp_path / "20240501_053000.WAV"
    assert converted(naive) == "2024-05-01T05:30:00"
    assert converted(naive, "Europe/Berlin") == "2024-05-01T05:30:00+02:00"
    assert converted(naive, "Europe/Berlin", "UTC") == "2024-05-01T07:30:00+02:00"
    assert converted(naive, None, "UTC+8") == "2024-05-01T05:30:00+08:00"
    assert converted(naive, "UTC-3:30", "+05:45") == "2024-04-30T20:15:00-03:30"


def test_clocks_that_state_their_zone_are_converted(tmp_path: Path):
    stated = tmp_path / "20200504T053000+1000.flac"
    assert converted(stated) == converted(stated, None, "UTC") == "2020-05-04T05:30:00+10:00"
    assert converted(stated, "Europe/Berlin", "UTC") == "2020-05-03T21:30:00+02:00"


def test_a_time_in_the_skipped_hour_is_moved_one_hour_ahead(tmp_path: Path):
    skipped = tmp_path / "20240331_023000.WAV"  # a recorder without daylight saving time
    assert converted(skipped, "Europe/Berlin") == "2024-03-31T03:30:00+02:00"


def test_elapsed_seconds_are_added_across_changes_of_daylight_saving_time():
    berlin = TimeZoneConverter("Europe/Berlin").zone
    before = datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    assert add_elapsed_seconds(before, 1800).isoformat() == "2024-10-27T02:00:00+01:00"
    assert add_elapsed_seconds(before, 5400.5).isoformat() == "2024-10-27T03:00:00.500000+01:00"
    spring = datetime(2024, 3, 31, 1, 59, 59, tzinfo=berlin)
    assert add_elapsed_seconds(spring, 1).isoformat() == "2024-03-31T03:00:00+02:00"
    assert add_elapsed_seconds(datetime(2024, 3, 31, 1, 59, 59), 1) == datetime(2024, 3, 31, 2)
    assert add_elapsed_seconds(datetime(2024, 3, 31, tzinfo=UTC), 86400) == datetime(
        2024, 4, 1, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Berln", "--timezone='Europe/Berln' .*; did you mean 'Europe/Berlin'?"),
        ("UTC+25", r"--timezone='UTC\+25' is not a time zone like Europe/Berlin or UTC\+2"),
        ("GMT+10", r"; use UTC\+10 for a clock ahead of UTC, or a place as REGION/CITY$"),
        ("gmt-3:30", "; use UTC-3:30 for a clock behind UTC"),
        ("10", r"; use UTC\+10 "),
        ("AEST", r": AEST is UTC\+10 \(Australia/.*\)"),
        ("PST", r"UTC-8 \(America/.*\) or UTC\+8 \(Asia/Manila\)"),
        ("XYZ", "; use the offset from UTC, or a place as REGION/CITY$"),
        ("Etc/GMT+25", "; use the offset from UTC, or a place as REGION/CITY$"),
        ("gmt", "; did you mean 'GMT'"),
        ("sydney", "; did you mean 'Australia/Sydney'"),
        ("", "is not a time zone"),
        ("../Berlin", "is not a time zone"),
        ("qqqq", "the IANA time zone database lists them"),
    ],
)
def test_invalid_time_zones_are_refused(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        TimeZoneConverter(name)
    with pytest.raises(ValueError, match="--clock-timezone="):
        TimeZoneConverter(None, name)
