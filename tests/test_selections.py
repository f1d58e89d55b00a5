"""Annotated recordings: Raven, Audacity and long tables."""

from pathlib import Path
from typing import Any

import pytest

from birdmix.recordings.annotations import holds_annotations, read_annotations
from birdmix.recordings.table import Recordings
from tests.recordings import read, write_text, write_wave

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"


def selections(root: Path, **settings: Any) -> Recordings:
    return read("selections", root, **settings).recordings


def events_of(recordings: Recordings, row: int = 0) -> list[tuple]:
    codes = (*recordings.labels.codes, None)
    events = recordings.table["events"][row].as_py()
    return [(event["start"], event["end"], codes[event["label"]]) for event in events]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.wav", "sub/b.wav", "c.WAV"):
        write_wave(tmp_path / name, seconds=10)
    write_text(tmp_path / "a.txt", "1,5\t2\twren\n\\\t1000\t2000\n3\t3\trobin\n")
    lines = [f"1\t{view} 1\t1\t1\t2\t0\t9\trobin\n" for view in ("Waveform", "Spectrogram")]
    write_text(tmp_path / "tables/b.Table.1.selections.txt", f"{RAVEN}Species\n{''.join(lines)}")
    write_text(tmp_path / "c.csv", "start,end,low,high,label\n00:01,00:02.5,10,20,wren\n")
    write_text(tmp_path / "README.txt", "What is here\n")
    return tmp_path


def test_raven_audacity_and_csv_stand_beside_their_recordings(root: Path):
    recordings = selections(root)
    assert recordings.paths == ["a.wav", "c.WAV", "sub/b.wav"]
    assert recordings.labels.codes == ("robin", "wren")
    assert events_of(recordings, 0) == [(1.5, 2, "wren"), (3, 3, "robin")]
    assert events_of(recordings, 1) == [(1, 2.5, "wren")]
    assert events_of(recordings, 2) == [(1, 2, "robin")]  # listed once for each view


def test_an_empty_table_says_silence_and_none_says_nothing(root: Path):
    write_wave(root / "d.wav")
    write_wave(root / "e.wav")
    write_text(root / "d.selections.txt", RAVEN + "Species\n")
    with pytest.warns(UserWarning, match="no annotations belong to 1 recordings, left out: e.wav"):
        recordings = selections(root)
    assert events_of(recordings, recordings.paths.index("d.wav")) == []


def test_annotations_without_a_recording_are_told(root: Path):
    write_text(root / "elsewhere.txt", "1\t2\twren\n")
    with pytest.warns(UserWarning, match="no recording belongs to the annotations elsewhere.txt"):
        assert len(selections(root)) == 3


def test_a_raven_table_of_several_recordings_counts_in_each_of_them(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies\n"
    rows = "1\t1\t2\ta.wav\t1\tx\n2\t13\t14.5\tb.wav\t3\ty\n"
    write_text(tmp_path / "all.selections.txt", header + rows)
    recordings = selections(tmp_path)
    assert [events_of(recordings, row) for row in (0, 1)] == [[(1, 2, "x")], [(3, 4.5, "y")]]


def test_a_raven_table_may_tell_of_a_part_of_what_was_open(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tNotes\tSpecies\n"
    )
    rows = '1\t15\t16\tb.wav\t5\t"unsure\tx\n1\t17\t18\tb.wav\t7\tloud "song"\ty\n'
    write_text(tmp_path / "a.Table.1.selections.txt", header + rows)  # quotes are signs like others
    recordings = selections(tmp_path)
    assert events_of(recordings, recordings.paths.index("b.wav")) == [(5, 6, "x"), (7, 8, "y")]
    without = header.replace("\tFile Offset (s)", "")
    text = without + "1\t1\t2\ta.wav\t\tx\n2\t13\t14\tb.wav\t\ty\n"
    write_text(tmp_path / "a.Table.1.selections.txt", text)
    with pytest.raises(ValueError, match="tells of several recordings, but not where in each"):
        selections(tmp_path)


def test_the_table_of_an_excluded_recording_is_not_its_namesakes(tmp_path: Path):
    for site in "AB":
        write_wave(tmp_path / site / "001.wav", seconds=10)
    write_text(tmp_path / "A/001.txt", "1\t2\trobin\n")
    write_text(tmp_path / "B/001.txt", "5\t6\twren\n")
    exclude = write_text(tmp_path / "exclude.lst", "B/001.wav\n")
    recordings = selections(tmp_path, exclude=str(exclude))
    assert recordings.paths == ["A/001.wav"] and events_of(recordings) == [(1, 2, "robin")]


def test_a_file_of_annotations_that_cannot_be_read_is_not_passed_over(root: Path):
    (root / "a.txt").write_bytes("1\t2\tRötel\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.txt, row 1: this is not UTF-8"):
        selections(root)
    write_text(root / "a.txt", "nothing of the kind\n")
    with pytest.warns(UserWarning) as told:
        selections(root)
    assert "named like a.wav, but no annotations" in str(told[0].message)
    write_text(root / "a.txt", "")
    assert events_of(selections(root), 0) == []


LONG = "path,start,end,low,high,label\na.wav,1,2,100,200,wren\nsub/b.wav,0,9,,,robin\n"


def test_a_long_table_tells_of_all_recordings(root: Path):
    table = write_text(root / "long.csv", LONG)
    recordings = selections(root, table=str(table))
    assert recordings.paths == ["a.wav", "sub/b.wav"]
    assert events_of(recordings, 1) == [(0, 9, "robin")]


def test_names_become_codes_by_a_map(root: Path):
    table = write_text(root / "long.csv", LONG)
    names = write_text(root / "map.csv", "name,code\nwren,eurwre1\nrobin,\n")
    recordings = selections(root, table=str(table), label_map=str(names))
    assert recordings.labels.codes == ("eurwre1",) and recordings.labels.names == ("wren",)
    assert events_of(recordings, 1) == []  # none of the labels
    names.write_text("name,code\nwren,eurwre1\nrobbin,x\n")
    with pytest.raises(ValueError, match="map.csv: no row for 'robin'; did you mean 'robbin'"):
        selections(root, table=str(table), label_map=str(names))


def test_where_somebody_has_looked_is_said_by_the_events_or_by_a_table(root: Path):
    table = write_text(root / "long.csv", LONG)
    spans = selections(root, table=str(table), annotated="events").table["annotated"]
    assert spans[0].as_py() == [{"start": 1, "end": 2}]
    looked = write_text(root / "looked.csv", "path,start,end\nc.WAV,0,5\na.wav,0,3\n")
    recordings = selections(root, table=str(table), annotated=str(looked))
    assert recordings.paths == ["a.wav", "c.WAV", "sub/b.wav"]
    spans = recordings.table["annotated"].to_pylist()
    assert spans == [[{"start": 0, "end": 3}], [{"start": 0, "end": 5}], []]
    assert selections(root, table=str(table)).table["annotated"].null_count == 2


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.txt",
            "1\t12\twren\n",
            r"a.txt, row 1: the part from 1 to 12 s reaches beyond the end of a.wav \(10.00 s\)",
        ),
        ("a.txt", "2\t1\twren\n", r"a.txt, row 1: start and end need 0 <= start <= end"),
        ("a.txt", "1\t2\twren\nsoon\t3\tx\n", r"a.txt, row 2: a label needs start, end and a"),
        ("c.csv", "start,end,label\n2,1,x\n", r"c.csv, row 2: start and end need 0 <= start"),
        ("c.csv", "start,end,label\n1,b,x\n", r"c.csv, row 2: end 'b' is no number"),
        ("c.csv", "start,end,sort\n1,2,x\n", r"c.csv: no column is named like the labels; set d"),
        (
            "c.csv",
            "start,end,Species,Annotation\n1,2,x,y\n",
            r"c.csv: species and annotation may hold the labels; set data.label_column to one of",
        ),
    ],
)
def test_wrong_annotations_are_told_by_file_and_row(
    root: Path, name: str, text: str, expected: str
):
    write_text(root / name, text)
    with pytest.raises(ValueError, match=expected):
        selections(root)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"label_column": "Specis"}, r"c.csv: no column 'Specis' \(data.label_column\); there is"),
        ({"table": "long.csv"}, r"long.csv, row 3: no recording at .*nowhere.wav"),
        ({"annotated": "looked.csv"}, r"looked.csv, row 2: start and end need 0 <= start < end"),
    ],
)
def test_wrong_settings_are_told(
    root: Path, settings: dict, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(root)
    write_text(root / "looked.csv", "path,start,end\na.wav,5,5\n")
    if "table" in settings:
        write_text(root / "long.csv", LONG.replace("sub/b.wav", "nowhere.wav"))
    with pytest.raises(ValueError, match=expected):
        selections(root, **settings)


def test_a_folder_without_annotations_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no recordings here"):
        selections(tmp_path)
    write_wave(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="no recording has a file of annotations"):
        selections(tmp_path)


def test_real_annotations_are_read(real_audio: Path):
    folder = real_audio / "soundscapes"
    with pytest.warns(UserWarning) as told:
        recordings = selections(folder, group_by="recording")
    assert recordings.paths == ["spinetail.wav"] and recordings.labels.codes == ("CRER", "SP")
    events = events_of(recordings)
    assert events[:2] == [(0.101385, 0.36752, "SP"), (0.506924, 3.041545, "CRER")]
    assert [code for _, _, code in events].count("SP") == 14 and len(events) == 18
    assert any("no recording belongs" in str(each.message) for each in told)
    assert any("4 recordings, left out" in str(each.message) for each in told)


def test_real_raven_tables_are_read_without_their_recordings(real_audio: Path):
    tables = real_audio / "soundscapes" / "raven_tables_no_audio"
    numbers = {}
    for file in sorted(tables.iterdir()):
        assert holds_annotations(file)
        numbers[file.name.split(".")[0]] = [each.name for each in read_annotations(file)]
    assert numbers["EmptyExample"] == []
    assert numbers["MSD-0003_20180427_2minstart00"].count("WOTH") >= 3
    assert numbers["raven_with_Annotation_col"] == ["CSWA"]
