"""When recordings began: headers, names, zones."""

import re
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.audio.clock import Clock, later, read_clock, recorded_at
from birdmix.audio.examine import examine
from birdmix.recordings.columns import datetime_of

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


def told(file: Path) -> str:
    moment = recorded_at(file)
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
def test_audiomoth_tells_in_a_comment(tmp_path: Path, comment: str, expected: str):
    assert told(wav(tmp_path, info(comment), SAMPLES)) == expected


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
def test_guano_tells_behind_the_samples(tmp_path: Path, timestamp: str, expected: str):
    assert told(wav(tmp_path, SAMPLES, guano(timestamp))) == expected


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
    assert told(wav(tmp_path, SAMPLES, wamd(timestamp))) == expected


def test_a_damaged_wildlife_acoustics_chunk_tells_nothing(tmp_path: Path):
    whole = wamd("2014-04-02 22:59:14")[8:]
    for end in range(len(whole)):
        assert told(wav(tmp_path, SAMPLES, chunk("wamd", whole[:end]))) in (
            "",
            "2014-04-02T22:59:14",
        )
    huge = struct.pack("<HI", 1, 0xFFFFFFFF)
    assert told(wav(tmp_path, SAMPLES, chunk("wamd", huge))) == ""


def test_bext_tells_where_nothing_else_does(tmp_path: Path):
    made = bext("2024-05-14", "05:30:00")
    assert told(wav(tmp_path, made, SAMPLES)) == "2024-05-14T05:30:00"
    assert told(wav(tmp_path, made, SAMPLES, name="20240501_040000.wav")) == "2024-05-01T04:00:00"
    assert told(wav(tmp_path, bext("0000-00-00", "00:00:00"), SAMPLES)) == ""


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
def test_chunks_that_are_odd_or_damaged_hide_no_others(tmp_path: Path, chunks: tuple):
    assert told(wav(tmp_path, *chunks)) == "2024-05-14T05:30:00"


def test_samples_of_more_than_4_gb_are_stepped_over(tmp_path: Path):
    num_bytes = 5 << 30
    ds64 = chunk("ds64", struct.pack("<QQQI", num_bytes + 100, num_bytes, 0, 0))
    file = wav(tmp_path, ds64, chunk("data", b"", size=0xFFFFFFFF), kind="RF64")
    with file.open("r+b") as stream:
        stream.seek(num_bytes, 2)  # a hole: nothing is stored
        stream.write(guano("2024-05-14T05:30:00"))
    assert told(file) == "2024-05-14T05:30:00"


def test_a_length_beyond_the_file_is_its_end(tmp_path: Path):
    ds64 = chunk("ds64", b"\xff" * 28)
    file = wav(tmp_path, guano("2024-05-14T05:30:00"), ds64, chunk("data", b"", size=0xFFFFFFFF))
    assert told(file) == "2024-05-14T05:30:00"


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", b"no sound", b"fLaC\0"])
def test_a_file_that_is_none_tells_by_its_name(tmp_path: Path, content: bytes):
    file = tmp_path / "SITE_20240514_053000.wav"
    file.write_bytes(content)
    assert told(file) == "2024-05-14T05:30:00"
    assert told(tmp_path / "missing.wav") == ""


def test_flac_keeps_the_comment_of_the_wav_it_was(tmp_path: Path):
    file = tmp_path / "x.flac"
    with soundfile.SoundFile(file, "w", 8000, 1) as sound:
        sound.comment = COMMENT.format("+2")
        sound.write(np.zeros(800))
    assert told(file) == "2024-05-14T05:30:00+02:00"
    try:
        file = file.rename(tmp_path / "caf\udce9.flac")  # no UTF-8
    except OSError:
        pytest.skip("this file system takes no such name")
    assert told(file) == "2024-05-14T05:30:00+02:00"


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
        ("61234567.wav", ""),  # a number, sooner than a time
        ("61234567.WAV", ""),  # the A of the suffix is no digit
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
def test_names_tell(tmp_path: Path, name: str, expected: str):
    assert told(tmp_path / name) == expected
    if expected:  # metadata tables read the same, without a zone
        assert datetime_of(f"site/{name}") == recorded_at(tmp_path / name).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("name", "comment"),
    [
        ("19700101_000012.WAV", None),
        ("x.wav", "Recorded at 00:00:12 01/01/1970 (UTC) by AudioMoth"),
        ("x.wav", "Recorded at 19:00:12 31/12/1969 (UTC-5) by AudioMoth"),
        ("19700103_043000.WAV", "Recorded at 04:30:00 03/01/1970 (UTC) by AudioMoth"),
    ],
)
def test_a_clock_that_was_not_set_is_named_and_not_believed(
    tmp_path: Path, name: str, comment: str | None
):
    file = wav(tmp_path, *([info(comment)] if comment else []), SAMPLES, name=name)
    reading = read_clock(file)
    assert reading.moment is None and datetime_of(name) is None
    assert re.fullmatch(r"the clock was not set: 19(70-01-0[13]|69-12-31)T.*", reading.problem)
    assert [p.detail for p in examine(file).problems if p.name == "clock"] == [reading.problem]


def test_a_clock_that_was_not_set_hides_no_date_that_somebody_gave(tmp_path: Path):
    unset = info("Recorded at 00:00:12 01/01/1970 (UTC) by AudioMoth")
    corrected = wav(tmp_path, unset, SAMPLES, name="20240501_053000.WAV")
    assert read_clock(corrected) == (datetime(2024, 5, 1, 5, 30), "")
    stated = wav(tmp_path, guano("2024-05-01T05:30:00"), SAMPLES, name="19700101_000012.WAV")
    assert read_clock(stated) == (datetime(2024, 5, 1, 5, 30), "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240514_053000.WAV", "2024-05-14T05:30:00+02:00"),  # the same, with its zone
        ("20240514_033000.WAV", "2024-05-14T05:30:00+02:00"),  # in UTC
        ("20240401_120000_at_20240514_053000.WAV", "2024-05-14T05:30:00+02:00"),
        ("20240601_053000.WAV", "2024-06-01T05:30:00"),  # somebody has corrected it
        ("20240601.WAV", "2024-05-14T05:30:00+02:00"),
    ],
)
def test_recorders_go_before_names_that_are_not_far_off(tmp_path: Path, name: str, expected: str):
    assert told(wav(tmp_path, info(COMMENT.format("+2")), SAMPLES, name=name)) == expected


def began(file: Path, *zones: str | None) -> str:
    return Clock(*zones).zoned(recorded_at(file)).isoformat()


def test_clocks_without_a_zone_run_in_the_one_that_is_said(tmp_path: Path):
    naive = tmp_path / "20240501_053000.WAV"
    assert began(naive) == "2024-05-01T05:30:00"
    assert began(naive, "Europe/Berlin") == "2024-05-01T05:30:00+02:00"
    assert began(naive, "Europe/Berlin", "UTC") == "2024-05-01T07:30:00+02:00"
    assert began(naive, None, "UTC+8") == "2024-05-01T05:30:00+08:00"
    assert began(naive, "UTC-3:30", "+05:45") == "2024-04-30T20:15:00-03:30"


def test_clocks_that_state_their_zone_are_converted(tmp_path: Path):
    stated = tmp_path / "20200504T053000+1000.flac"
    assert began(stated) == began(stated, None, "UTC") == "2020-05-04T05:30:00+10:00"
    assert began(stated, "Europe/Berlin", "UTC") == "2020-05-03T21:30:00+02:00"


def test_an_hour_that_clocks_skip_is_the_one_after(tmp_path: Path):
    skipped = tmp_path / "20240331_023000.WAV"  # of a recorder that knows no summer
    assert began(skipped, "Europe/Berlin") == "2024-03-31T03:30:00+02:00"


def test_time_passes_as_it_does_while_clocks_change():
    berlin = Clock("Europe/Berlin").zone
    before = datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    assert later(before, 1800).isoformat() == "2024-10-27T02:00:00+01:00"
    assert later(before, 5400.5).isoformat() == "2024-10-27T03:00:00.500000+01:00"
    spring = datetime(2024, 3, 31, 1, 59, 59, tzinfo=berlin)
    assert later(spring, 1).isoformat() == "2024-03-31T03:00:00+02:00"
    assert later(datetime(2024, 3, 31, 1, 59, 59), 1) == datetime(2024, 3, 31, 2)
    assert later(datetime(2024, 3, 31, tzinfo=UTC), 86400) == datetime(2024, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Berln", "--timezone='Europe/Berln' .*; did you mean 'Europe/Berlin'?"),
        ("UTC+25", r"--timezone='UTC\+25' is no time zone like Europe/Berlin or UTC\+2"),
        ("GMT+10", r"; write UTC\+10 for a clock ahead of UTC, or a place as REGION/CITY$"),
        ("gmt-3:30", "; write UTC-3:30 for a clock behind UTC"),
        ("10", r"; write UTC\+10 "),
        ("AEST", r": AEST is UTC\+10 \(Australia/.*\)"),
        ("PST", r"UTC-8 \(America/.*\) or UTC\+8 \(Asia/Manila\)"),
        ("XYZ", "; write the offset from UTC, or a place as REGION/CITY$"),
        ("Etc/GMT+25", "; write the offset from UTC, or a place as REGION/CITY$"),
        ("gmt", "; did you mean 'GMT'"),
        ("sydney", "; did you mean 'Australia/Sydney'"),
        ("", "is no time zone"),
        ("../Berlin", "is no time zone"),
        ("qqqq", "the IANA time zone database lists them"),
    ],
)
def test_zones_that_are_none_are_refused(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        Clock(name)
    with pytest.raises(ValueError, match="--clock-timezone="):
        Clock(None, name)
