"""``data=selections``: annotation files of Raven and Audacity, and tables of all annotations."""

from pathlib import Path
from typing import Any

import pytest

from birdmix.recordings import annotation_matching
from birdmix.recordings.annotation_files import (
    Annotation,
    is_annotation_file,
    read_annotations,
)
from birdmix.recordings.data_findings import Finding
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source
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
    write_text(tmp_path / "README.txt", "About this folder\n")
    return tmp_path


def test_raven_audacity_and_csv_files_beside_recordings_are_read(root: Path):
    recordings = selections(root)
    assert recordings.paths == ["a.wav", "c.WAV", "sub/b.wav"]
    assert recordings.labels.codes == ("robin", "wren")
    assert events_of(recordings, 0) == [(1.5, 2, "wren"), (3, 3, "robin")]
    assert events_of(recordings, 1) == [(1, 2.5, "wren")]
    assert events_of(recordings, 2) == [(1, 2, "robin")]  # listed once for each view


def test_an_empty_file_marks_no_events_and_recordings_without_a_file_are_left_out(root: Path):
    write_wave(root / "d.wav")
    write_wave(root / "e.wav")
    write_text(root / "d.selections.txt", RAVEN + "Species\n")
    with pytest.warns(UserWarning, match="1 recordings without annotations are left out: e.wav"):
        recordings = selections(root)
    assert events_of(recordings, recordings.paths.index("d.wav")) == []


def test_annotations_without_a_recording_give_a_warning(root: Path):
    write_text(root / "elsewhere.txt", "1\t2\twren\n")
    with pytest.warns(UserWarning, match="no recording belongs to the annotations elsewhere.txt"):
        assert len(selections(root)) == 3


def test_times_of_a_raven_table_of_several_recordings_are_those_in_each(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies\n"
    rows = "1\t1\t2\ta.wav\t1\tx\n2\t13\t14.5\tb.wav\t3\ty\n"
    write_text(tmp_path / "all.selections.txt", header + rows)
    recordings = selections(tmp_path)
    assert [events_of(recordings, row) for row in (0, 1)] == [[(1, 2, "x")], [(3, 4.5, "y")]]


def test_a_raven_table_may_annotate_some_of_the_opened_files(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tNotes\tSpecies\n"
    )
    rows = '1\t15\t16\tb.wav\t5\t"unsure\tx\n1\t17\t18\tb.wav\t7\tloud "song"\ty\n'
    write_text(tmp_path / "a.Table.1.selections.txt", header + rows)  # quotes are plain text
    recordings = selections(tmp_path)
    assert events_of(recordings, recordings.paths.index("b.wav")) == [(5, 6, "x"), (7, 8, "y")]
    without = header.replace("\tFile Offset (s)", "")
    text = without + "1\t1\t2\ta.wav\t\tx\n2\t13\t14\tb.wav\t\ty\n"
    write_text(tmp_path / "a.Table.1.selections.txt", text)
    with pytest.raises(ValueError, match="annotates several recordings without the times in each"):
        selections(tmp_path)


BEGIN_PATH = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
    "Common Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
)


def begin_path_row(path: str, start: float, end: float, name: str, offset: float) -> str:
    times = f"{start}\t{end}\t150\t12000"
    return f"1\tSpectrogram 1\t1\t{times}\t{name}\t{name}\t0.9\t{path}\t{offset}\n"


@pytest.mark.parametrize("folder", ["D:\\2024\\rec", "/home/ann/rec"], ids=["Windows", "POSIX"])
def test_recordings_of_a_raven_table_are_found_by_begin_path(tmp_path: Path, folder: str):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    separator = "\\" if "\\" in folder else "/"
    row = begin_path_row(f"{folder}{separator}b.wav", 13, 14.5, "wren", 3)
    write_text(tmp_path / "a.Table.1.selections.txt", BEGIN_PATH + row)
    with pytest.warns(UserWarning, match="left out: a.wav"):
        recordings = selections(tmp_path, label_column="Common Name")
    assert recordings.paths == ["b.wav"] and events_of(recordings) == [(3, 4.5, "wren")]


@pytest.mark.parametrize("as_table", [False, True])
def test_equal_names_of_two_sites_are_distinguished_by_the_end_of_begin_path(
    tmp_path: Path, as_table: bool
):
    for site in ("north", "south", "south/2023"):
        write_wave(tmp_path / site / "001.wav", seconds=10)
    rows = [
        begin_path_row("E:\\cards\\south\\001.wav", 1, 2, "wren", 1),
        begin_path_row("E:\\cards\\north\\001.wav", 11, 12, "robin", 1),
        begin_path_row("E:\\cards\\south\\2023\\001.wav", 21, 22, "tit", 1),
    ]
    table = write_text(tmp_path / "BirdNET_SelectionTable.txt", BEGIN_PATH + "".join(rows))
    settings = {"table": str(table)} if as_table else {}
    recordings = selections(tmp_path, label_column="Common Name", **settings)
    assert recordings.paths == ["north/001.wav", "south/001.wav", "south/2023/001.wav"]
    assert [events_of(recordings, row) for row in range(3)] == [
        [(1, 2, "robin")],
        [(1, 2, "wren")],
        [(1, 2, "tit")],
    ]


def test_a_table_belongs_to_the_recording_in_its_folder_before_others_of_the_name(tmp_path: Path):
    write_wave(tmp_path / "001.wav", seconds=10)
    write_wave(tmp_path / "B" / "001.wav", seconds=10)
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
    write_text(tmp_path / "B/001.Table.1.selections.txt", f"{header}1\t1\t2\t001.wav\twren\n")
    with pytest.warns(UserWarning, match="left out: 001.wav"):
        recordings = selections(tmp_path)
    assert recordings.paths == ["B/001.wav"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("D:\\set\\001.wav", "001.wav"),  # its folder is the root
        ("D:\\other\\001.wav", "001.wav"),  # folder A differs; the name of the root may differ
        ("D:\\set\\A\\001.wav", "A/001.wav"),
        ("001.wav", None),
    ],
)
def test_a_recording_at_the_root_matches_if_no_folder_name_differs(
    tmp_path: Path, path: str, expected: str | None
):
    root = tmp_path / "set"
    for name in ("001.wav", "A/001.wav"):
        write_wave(root / name, seconds=10)
    write_text(root / "all.txt", BEGIN_PATH + begin_path_row(path, 1, 2, "wren", 1))
    if expected is None:
        with pytest.raises(ValueError, match="2 recordings have the name '001.wav'"):
            selections(root, label_column="Common Name")
    else:
        assert selections(root, label_column="Common Name").paths == [expected]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("D:\\rec\\gone.wav", r"a.txt, row 2: no recording '.*gone.wav' below"),
        ("D:\\rec\\001.wav", r"a.txt, row 2: 2 recordings have .*; give more of the path"),
        ("{root}/C/001.wav", r"a.txt, row 2: no recording '.*/C/001.wav' below"),
    ],
)
def test_annotations_of_a_missing_recording_are_not_assigned_to_another(
    tmp_path: Path, path: str, expected: str
):
    for name in ("a.wav", "A/001.wav", "B/001.wav"):
        write_wave(tmp_path / name, seconds=10)
    row = begin_path_row(path.format(root=tmp_path), 1, 2, "wren", 1)
    write_text(tmp_path / "a.txt", BEGIN_PATH + row)
    with pytest.raises(ValueError, match=expected):
        selections(tmp_path, label_column="Common Name")


def test_two_recordings_of_one_name_are_not_assigned_to_the_only_existing_one(tmp_path: Path):
    write_wave(tmp_path / "north" / "001.wav", seconds=10)
    rows = [begin_path_row(f"/data/{site}/001.wav", 1, 2, site, 1) for site in ("north", "south")]
    write_text(tmp_path / "all.txt", BEGIN_PATH + "".join(rows))
    with pytest.raises(ValueError, match=r"row 3: .* are two recordings, but only north/001.wav"):
        selections(tmp_path, label_column="Common Name")


def test_missing_recordings_of_a_raven_table_are_collected_as_findings(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=10)
    rows = [begin_path_row(f"/rec/{name}.wav", 1, 2, "wren", 1) for name in ("a", "gone", "gone")]
    write_text(tmp_path / "all.txt", BEGIN_PATH + "".join(rows))
    findings: list[Finding] = []
    settings = DataSettings("selections", str(tmp_path), label_column="Common Name")
    assert read_source(settings, findings).recordings.paths == ["a.wav"]
    assert [(f.path, f.problem) for f in findings] == [("/rec/gone.wav", "missing")]


def test_a_selection_that_ends_in_the_next_file_is_clipped_with_a_warning(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tEnd File\tFile Offset (s)\tSpecies\n"
    )
    rows = "1\t9\t11\ta.wav\tb.wav\t9\tx\n2\t13\t14\tb.wav\tb.wav\t3\ty\n"
    table = write_text(tmp_path / "all.selections.txt", header + rows)
    with pytest.warns(UserWarning, match=r"1 selections exceed .*all.selections.txt, row 2"):
        recordings = selections(tmp_path)
    assert [events_of(recordings, row) for row in (0, 1)] == [[(9, 10, "x")], [(3, 4, "y")]]
    table.write_text(header + rows.replace("a.wav\tb.wav", "a.wav\ta.wav"))
    with pytest.raises(ValueError, match="row 2: the span from 9 to 11 s exceeds the end"):
        selections(tmp_path)


def test_a_selection_may_end_in_the_next_file_if_no_column_states_the_file_of_its_end(
    tmp_path: Path,
):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=10)
    header = "Begin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies\n"
    rows = "9\t11\ta.wav\t9\tx\n13\t14\tb.wav\t3\ty\n"
    write_text(tmp_path / "all.selections.txt", header + rows)
    with pytest.warns(UserWarning, match="1 selections exceed the end"):
        assert events_of(selections(tmp_path)) == [(9, 10, "x")]
    write_text(tmp_path / "all.selections.txt", header + rows.replace("9\tx", "10\tx"))
    with pytest.raises(ValueError, match="row 2: the span from 10 to 12 s exceeds the end"):
        selections(tmp_path)


def test_the_padding_of_a_programs_last_window_is_clipped(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=7.5)
    write_text(tmp_path / "a.BirdNET.results.txt", "6.0\t9.0\tParus major, Great Tit\t0.7001\n")
    with pytest.warns(UserWarning, match="1 selections exceed the end"):
        assert events_of(selections(tmp_path)) == [(6, 7.5, "Parus major, Great Tit")]


def names_of(file: Path, text: str, label_column: str | None = None) -> list[tuple]:
    annotations = read_annotations(write_text(file, text), label_column)
    return [(a.start, a.end, a.name) for a in annotations]


def test_cells_quoted_by_r_are_unquoted(tmp_path: Path):
    header = '"Selection"\t"Begin Time (s)"\t"End Time (s)"\t"Notes"\t"Species"\n'
    rows = (
        '1\t5e-04\t2\t"a ""loud"" one"\t"wren"\n2\t1\t2\t"unsure\twren\n'
        '3\t2\t3\tx\t"so ""called"" wren"\n4\t3\t4\tx\tNA\n'
    )
    assert names_of(tmp_path / "a.txt", header + rows) == [
        (0.0005, 2, "wren"),
        (1, 2, "wren"),
        (2, 3, 'so "called" wren'),
        (3, 4, ""),  # R's missing value: an event without a label
    ]
    mangled = '"Begin.Time..s.","End.Time..s.","Species"\n0.5,1,"wren, winter"\n'
    assert names_of(tmp_path / "a.csv", mangled) == [(0.5, 1, "wren, winter")]
    track = '5e-04\t1.5e+01\t"wren"\n1\t2\tNA\n'
    assert names_of(tmp_path / "b.txt", track) == [(0.0005, 15, "wren"), (1, 2, "")]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (
            "Troglodytes troglodytes, Eurasian Wren\t0.9871",
            "Troglodytes troglodytes, Eurasian Wren",
        ),
        ("Eurasian Wren 0.9871", "Eurasian Wren"),
        ("Eurasian Wren\t5e-04", "Eurasian Wren"),
        ("Wren, Eurasian 0.99", "Wren, Eurasian"),
        ("EUWR;1.000", "EUWR"),
        ("wren 2", "wren 2"),
        ("type 0.5", "type 0.5"),
        ("wren;robin", "wren;robin"),
        ("wren\tloud", "wren loud"),
        ("0.98", "0.98"),
        ("", ""),
    ],
)
def test_a_confidence_is_removed_from_an_audacity_label(tmp_path: Path, label: str, name: str):
    assert names_of(tmp_path / "a.txt", f"1\t2\t{label}\n") == [(1, 2, name)]


def test_a_row_of_nocall_marks_a_recording_without_events(tmp_path: Path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", seconds=2)  # shorter than the row of nocall
    rows = {"a": ("nocall", 0, 3), "b": ("wren", 1, 2)}
    for stem, (name, start, end) in rows.items():
        row = begin_path_row(f"/rec/{stem}.wav", start, end, name, start)
        write_text(tmp_path / f"{stem}.BirdNET.selection.table.txt", BEGIN_PATH + row)
    names = write_text(tmp_path / "map.csv", "name,code\nwren,eurwre1\n")
    for settings in ({}, {"label_map": str(names)}):
        with pytest.warns(UserWarning, match="1 selections exceed the end"):
            recordings = selections(tmp_path, label_column="Common Name", **settings)
        assert recordings.paths == ["a.wav", "b.wav"] and len(recordings.labels) == 1
        assert events_of(recordings, 0) == [] and len(events_of(recordings, 1)) == 1


NFC, NFD = "M\N{LATIN SMALL LETTER E WITH ACUTE}sange", "Me\N{COMBINING ACUTE ACCENT}sange"


def test_names_of_annotations_are_compared_as_nfc(tmp_path: Path):
    for name in (f"{NFD}.wav", "x.wav", "y.wav"):
        write_wave(tmp_path / name, seconds=10)
    write_text(tmp_path / f"{NFC}.txt", f"1\t2\t{NFD}\n")
    write_text(tmp_path / "x.txt", f"1\t2\t{NFC}\n")
    header = "Begin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
    write_text(tmp_path / "all.txt", f"{header}3\t4\t{NFC}.wav\t{NFD}\n")
    exclude = write_text(tmp_path / "exclude.lst", "y.wav\n")
    recordings = selections(tmp_path, exclude=str(exclude))
    assert recordings.labels.codes == (NFC,)
    events = events_of(recordings, recordings.paths.index(f"{NFD}.wav"))
    assert sorted(events) == [(1, 2, NFC), (3, 4, NFC)]
    for spelt in (NFC, NFD):
        names = write_text(tmp_path / "map.lst", f"name,code\n{spelt},gretit1\n")
        assert selections(tmp_path, label_map=str(names), exclude=str(exclude)).labels.codes == (
            "gretit1",
        )
    write_text(tmp_path / "exclude.lst", f"y.wav\n{NFC}.wav\n")
    assert selections(tmp_path, exclude=str(exclude)).paths == ["x.wav"]


def test_a_label_map_in_utf_16_is_read(root: Path):
    table = write_text(root / "long.csv", LONG)
    names = root / "map.csv"
    names.write_text("name\tcode\nwren\teurwre1\nrobin\teurrob1\n", encoding="utf-16")
    recordings = selections(root, table=str(table), label_map=str(names))
    assert recordings.labels.codes == ("eurrob1", "eurwre1")


def test_annotations_of_an_excluded_recording_are_not_assigned_to_its_namesake(tmp_path: Path):
    for site in "AB":
        write_wave(tmp_path / site / "001.wav", seconds=10)
    write_text(tmp_path / "A/001.txt", "1\t2\trobin\n")
    write_text(tmp_path / "B/001.txt", "5\t6\twren\n")
    exclude = write_text(tmp_path / "exclude.lst", "B/001.wav\n")
    recordings = selections(tmp_path, exclude=str(exclude))
    assert recordings.paths == ["A/001.wav"] and events_of(recordings) == [(1, 2, "robin")]


def test_an_annotation_file_that_cannot_be_read_is_an_error_or_a_warning(root: Path):
    (root / "a.txt").write_bytes("1\t2\tRötel\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.txt, row 1: not UTF-8"):
        selections(root)
    write_text(root / "a.txt", "nothing of the kind\n")
    with pytest.warns(UserWarning) as warnings:
        selections(root)
    assert "has the name of a.wav, but is not an annotation" in str(warnings[0].message)
    write_text(root / "a.txt", "")
    assert events_of(selections(root), 0) == []


LONG = "path,start,end,low,high,label\na.wav,1,2,100,200,wren\nsub/b.wav,0,9,,,robin\n"


def test_a_table_of_the_annotations_of_all_recordings_is_read(root: Path):
    table = write_text(root / "long.csv", LONG)
    recordings = selections(root, table=str(table))
    assert recordings.paths == ["a.wav", "sub/b.wav"]
    assert events_of(recordings, 1) == [(0, 9, "robin")]


def test_a_label_map_maps_names_to_codes(root: Path):
    table = write_text(root / "long.csv", LONG)
    names = write_text(root / "map.csv", "name,code\nwren,eurwre1\nrobin,\n")
    recordings = selections(root, table=str(table), label_map=str(names))
    assert recordings.labels.codes == ("eurwre1",) and recordings.labels.names == ("wren",)
    assert events_of(recordings, 1) == []  # a blank code: not a label
    names.write_text("name,code\nwren,eurwre1\nrobbin,x\n")
    with pytest.raises(ValueError, match="map.csv: no row for 'robin'; did you mean 'robbin'"):
        selections(root, table=str(table), label_map=str(names))


def test_annotated_spans_are_all_the_file_the_events_or_those_of_a_table(root: Path):
    table = write_text(root / "long.csv", LONG)
    spans = selections(root, table=str(table), annotated="events").table["annotated"]
    assert spans[0].as_py() == [{"start": 1, "end": 2}]
    annotated = write_text(root / "annotated.csv", "path,start,end\nc.WAV,0,5\na.wav,0,3\n")
    recordings = selections(root, table=str(table), annotated=str(annotated))
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
            r"a.txt, row 1: the span from 1 to 12 s exceeds the end of a.wav \(10.00 s\)",
        ),
        ("a.txt", "2\t1\twren\n", r"a.txt, row 1: start and end need 0 <= start <= end"),
        ("a.txt", "1\t2\twren\nsoon\t3\tx\n", r"a.txt, row 2: a label needs start, end and a"),
        ("c.csv", "start,end,label\n2,1,x\n", r"c.csv, row 2: start and end need 0 <= start"),
        ("c.csv", "start,end,label\n1,b,x\n", r"c.csv, row 2: end 'b' is not a number"),
        ("c.csv", "start,end,sort\n1,2,x\n", r"c.csv: no column has a common name .*; set data"),
        (
            "c.csv",
            "start,end,Species,Annotation\n1,2,x,y\n",
            r"c.csv: each of species and annotation may be the label .*; set data.label_column to",
        ),
    ],
)
def test_the_error_for_wrong_annotations_names_file_and_row(
    root: Path, name: str, text: str, expected: str
):
    write_text(root / name, text)
    with pytest.raises(ValueError, match=expected):
        selections(root)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"label_column": "Specis"},
            r"c.csv: no column 'Specis' \(data.label_column\); valid names",
        ),
        ({"table": "long.csv"}, r"long.csv, row 3: no recording at .*nowhere.wav"),
        ({"annotated": "spans.csv"}, r"spans.csv, row 2: start and end need 0 <= start < end"),
    ],
)
def test_the_error_for_wrong_settings_names_the_file(
    root: Path, settings: dict, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(root)
    write_text(root / "spans.csv", "path,start,end\na.wav,5,5\n")
    if "table" in settings:
        write_text(root / "long.csv", LONG.replace("sub/b.wav", "nowhere.wav"))
    with pytest.raises(ValueError, match=expected):
        selections(root, **settings)


def test_a_folder_without_annotations_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no recordings in this folder"):
        selections(tmp_path)
    write_wave(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="no recording has an annotation file"):
        selections(tmp_path)


def test_real_annotations_are_read(real_audio: Path):
    folder = real_audio / "soundscapes"
    with pytest.warns(UserWarning) as warnings:
        recordings = selections(folder, group_by="recording")
    assert recordings.paths == ["spinetail.wav"] and recordings.labels.codes == ("CRER", "SP")
    events = events_of(recordings)
    assert events[:2] == [(0.101385, 0.36752, "SP"), (0.506924, 3.041545, "CRER")]
    assert [code for _, _, code in events].count("SP") == 14 and len(events) == 18
    messages = [str(warning.message) for warning in warnings]
    assert any("no recording belongs" in message for message in messages)
    assert any("4 recordings without annotations" in message for message in messages)


def test_real_raven_tables_are_read_without_their_recordings(real_audio: Path):
    tables = real_audio / "soundscapes" / "raven_tables_no_audio"
    labels = {}
    for file in sorted(tables.iterdir()):
        assert is_annotation_file(file)
        labels[file.name.split(".")[0]] = [a.name for a in read_annotations(file)]
    assert labels["EmptyExample"] == []
    assert labels["MSD-0003_20180427_2minstart00"].count("WOTH") >= 3
    assert labels["raven_with_Annotation_col"] == ["CSWA"]


def test_the_work_of_matching_equal_names_grows_with_their_number_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = 0
    split_path = annotation_matching._split_path

    def counted(path: str) -> list[str]:
        nonlocal calls
        calls += 1
        return split_path(path)

    monkeypatch.setattr(annotation_matching, "_split_path", counted)
    num_calls = []
    for number in (100, 200):
        calls = 0
        paths = [f"recorder{at}/20260501_050000.wav" for at in range(number)]
        matcher = annotation_matching.RecordingMatcher(tmp_path, paths)
        for path in paths:
            annotation = Annotation(0, 1, "wren", "a.txt, row 1", f"D:\\sound\\{path}", True)
            assert matcher.match_annotation(annotation, None) == path
            assert matcher.match_annotation_file(f"{path}.txt") == path
        num_calls.append(calls)
    assert num_calls[1] <= 2 * num_calls[0]
