"""Readers by data source, the recordings table, folds, data splits and pseudo labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from birdmix.labels import Labels
from birdmix.recordings.data_splits import split_data
from birdmix.recordings.folds import assign_folds, labels_in_few_groups, split_by_fold
from birdmix.recordings.metadata import assign_groups_by_name, parse_start_time_from_name
from birdmix.recordings.pseudo_labels import read_pseudo_labels
from birdmix.recordings.recordings_table import Recordings, SourceRecordings, concatenate
from birdmix.recordings.settings import DataSettings, PoolSettings, PseudoSettings
from birdmix.recordings.source_readers import read_pool_folder
from birdmix.recordings.table_schema import Event, Span
from birdmix.recordings.text_table import TextTable
from tests.recordings import read, read_csv, read_folder, table, write_text, write_wave


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav"):
        write_wave(tmp_path / path)
    write_wave(tmp_path / "loose.wav")
    return tmp_path


# ---------------------------------------------------------------- the table


def test_filters_select_whole_rows():
    recordings = table(["a", "b", "c"], ["x", "y", "z"])
    kept = recordings.take(np.array([False, True, True]))
    assert kept.paths == ["1.wav", "2.wav"]
    assert kept.targets().argmax(axis=1).tolist() == [1, 2]
    reversed_rows = kept.take(np.array([1, 0]))
    assert reversed_rows.paths == ["2.wav", "1.wav"] and reversed_rows.label_codes_of_row(0) == (
        "z",
    )


def events_table() -> Recordings:
    return Recordings.build(
        Path(),
        Labels(("a", "b")),
        path=["x", "y", "z"],
        events=[[Event(0, 1, "b"), Event(2, 3, None)], [], None],
        annotated=[None, [Span(0, 4)], None],
    )


def test_events_give_a_row_its_labels():
    recordings = events_table()
    assert [recordings.label_codes_of_row(row) for row in range(3)] == [("b",), (), ()]
    assert recordings.take(np.array([2, 0])).ragged_column("events")[1]["label"].tolist() == [1, -1]
    assert recordings.has_any_events and not recordings.take(np.array([2])).has_any_events


def test_a_digest_depends_on_rows_and_not_on_buffers():
    recordings = events_table()
    again = concatenate([recordings.take(np.array([0])), recordings.take(np.array([1, 2]))])
    assert again.digest() == recordings.digest()
    assert recordings.take(np.array([1, 0, 2])).digest() != recordings.digest()
    other = Recordings.build(Path(), Labels(("a", "b")), path=["x"], codes=[("a",)])
    for changed in (
        Recordings.build(Path(), Labels(("a", "c")), path=["x"], codes=[("a",)]),
        Recordings.build(Path(), Labels(("a", "b")), path=["x"], codes=[("b",)]),
        Recordings.build(Path(), Labels(("a", "b")), path=["x"], codes=[("a",)], values=[(0.9,)]),
        Recordings.build(Path(), Labels(("a", "b")), path=["x"], codes=[("a",)], weight=[0.5]),
        Recordings.build(Path(), Labels(("a", "b")), path=["x"], codes=[("a",)], unknown=[("b",)]),
    ):
        assert changed.digest() != other.digest()


def test_tables_of_two_folders_are_joined_under_one_root(tmp_path: Path):
    one = Recordings.build(tmp_path / "one", Labels(("a",)), path=["x.wav"], codes=[("a",)])
    two = Recordings.build(tmp_path / "two", Labels(("a",)), path=["y.wav"], codes=[()])
    joined = concatenate([one, two.with_paths_relative_to(one.root)])
    assert joined.paths == ["x.wav", "../two/y.wav"]


# ---------------------------------------------------------------- a folder per class


def test_a_folder_per_class_is_read(folder: Path):
    recordings = read_folder(folder, group_pattern=r"^(\d)-")
    assert recordings.labels.codes == ("robin", "wren")
    assert recordings.paths == [
        "robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav",
    ]  # fmt: skip
    assert recordings.groups == ["1", "2", "1", "2"]
    assert recordings.targets().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_a_folder_without_class_folders_is_refused(tmp_path: Path):
    write_wave(tmp_path / "loose.wav")
    with pytest.raises(ValueError, match="no recordings in class folders"):
        read_folder(tmp_path)


def test_a_folder_name_may_have_several_labels_or_none(tmp_path: Path):
    for name in ("robin+wren", "wren", "nothing"):
        write_wave(tmp_path / name / "a.wav")
    recordings = read_folder(tmp_path, label_separator="+", negative=["nothing"])
    assert recordings.labels.codes == ("robin", "wren")
    assert recordings.targets().tolist() == [[0, 0], [1, 1], [0, 1]]
    assert read_folder(tmp_path).labels.codes == ("nothing", "robin+wren", "wren")
    with pytest.raises(ValueError, match="no folder 'nothin'; did you mean 'nothing'"):
        read_folder(tmp_path, negative=["nothin"])


def test_names_with_spaces_quotes_and_any_script_are_read(tmp_path: Path):
    names = ["Зарянка/a b.wav", 'O\'Brien "s"/ä.wav', "エナガ/1,2;3.wav"]
    for name in names:
        write_wave(tmp_path / name)
    assert sorted(read_folder(tmp_path).paths) == sorted(names)
    text = 'path,labels\n"Зарянка/a b.wav",x\n"O\'Brien ""s""/ä.wav",y\n"エナガ/1,2;3.wav",z\n'
    assert read_csv(tmp_path, text).paths == names


def test_paths_match_in_nfd_and_with_backslashes(tmp_path: Path):
    write_wave(tmp_path / "sub/cafe\N{COMBINING ACUTE ACCENT}.wav")
    recordings = read_csv(tmp_path, "path,labels\nsub\\café.wav,x\n")
    assert (tmp_path / recordings.paths[0]).is_file()


def test_a_path_may_mix_nfc_and_nfd(tmp_path: Path):
    write_wave(tmp_path / "e\N{COMBINING ACUTE ACCENT}/\N{LATIN SMALL LETTER E WITH ACUTE}.wav")
    nfc = "\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert len(read_csv(tmp_path, f"path,labels\n{nfc}/{nfc}.wav,x\n")) == 1
    recordings = read_folder(tmp_path, group_pattern="e\N{COMBINING ACUTE ACCENT}")
    assert recordings.labels.codes == (nfc,) and recordings.groups == [nfc]
    exclude = write_text(tmp_path / "exclude.txt", f'"{nfc}/{nfc}.wav"\n')
    with pytest.raises(ValueError, match="no recordings in class folders"):
        read_folder(tmp_path, exclude=str(exclude))
    with pytest.raises(ValueError, match="has no other class folders"):
        read_folder(tmp_path, negative=[nfc])


def test_a_link_out_of_the_root_is_followed_only_if_allowed(tmp_path: Path):
    write_wave(tmp_path / "elsewhere/robin/a.wav")
    root = tmp_path / "root"
    write_wave(root / "wren/b.wav")
    (root / "robin").symlink_to(tmp_path / "elsewhere/robin", target_is_directory=True)
    (root / "wren/c.wav").symlink_to(root / "wren/b.wav")  # stays inside
    with pytest.raises(ValueError, match=r"robin/a.wav: a link leads out .*follow_links=true"):
        read_folder(root)
    with pytest.raises(ValueError, match=r"table.csv, row 2: a link leads out"):
        read_csv(root, "path,labels\nrobin/a.wav,x\n")
    with pytest.warns(UserWarning, match="1 links to recordings of the same root .*wren/c.wav"):
        assert read_folder(root, follow_links=True).paths == ["robin/a.wav", "wren/b.wav"]


def test_circular_links_are_not_followed_forever(tmp_path: Path):
    write_wave(tmp_path / "robin/a.wav")
    (tmp_path / "robin/again").symlink_to(tmp_path, target_is_directory=True)
    assert len(read_folder(tmp_path).paths) == 1


# ---------------------------------------------------------------- a CSV


def test_a_csv_keeps_labels_as_strings_and_paths_relative_to_itself(folder: Path):
    recordings = read_csv(
        folder, "path,labels,group\nrobin/1-a.wav,22961;1e5,ann\nwren/1-c.wav,,bob\n"
    )
    assert recordings.labels.codes == ("1e5", "22961")
    assert [recordings.label_codes_of_row(row) for row in (0, 1)] == [("22961", "1e5"), ()]
    assert recordings.groups == ["ann", "bob"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nrobin/1-a.wav,a\n", r"table.csv: no column 'labels'; did you mean 'label'"),
        ("path,labels\n", r"table.csv: no rows"),
        ("", r"table.csv: not a CSV"),
        ("path,labels\nrobin/1-a.wav,a\nrobin/9.wav,a\n", r"row 3: no recording at .*9.wav"),
        ("path,labels\n../x.wav,a\n", r"row 2: path '../x.wav' leaves the data root"),
        ("path,labels,weight\nrobin/1-a.wav,a,heavy\n", r"row 2: weight 'heavy' is not a number"),
        ("path,labels,weight\nrobin/1-a.wav,a,inf\n", r"row 2: weight 'inf' is not a number"),
        ("path,labels,weight\nrobin/1-a.wav,a,-1\n", r"row 2: weight must not be negative"),
        ("path,labels,start,end\nrobin/1-a.wav,a,4,\n", r"row 2: start and end in seconds need"),
        ("path,labels,start,end\nrobin/1-a.wav,a,0.4,0.3\n", r"row 2: .* 0 <= start < end"),
        ("path,labels\nrobin/1-a.wav,\n", r"no row has a label"),
        ("path,labels\n,a\n", r"row 2: no path"),
        ("path,labels\nrobin/1-a.wav,a,b\n", r"row 2: 3 cells for 2 columns; quote cells"),
        ("path, path\nrobin/1-a.wav,a\n", r"column 'path' occurs twice|no column 'labels'"),
        ("path,labels,start,end\nrobin/1-a.wav,a,0,9\n", r"row 2: the span from 0 to 9 s exceeds"),
        ("path,labels,start,end\nrobin/1-a.wav,a,1:75,2:00\n", r"row 2: start '1:75' is not a"),
        (
            "path,labels\n\nrobin/1-a.wav,a\nrobin/1-a.wav,b\n",
            r"row 4: the same recording or span occurs in row 3",
        ),
        (
            "path,labels,start,end,group\nrobin/1-a.wav,a,0,.5,x\nrobin/1-a.wav,b,.5,1,y\n",
            r"row 3: robin/1-a.wav has group 'y', but 'x' in row 2",
        ),
        (
            "path,labels,start,end,split\nrobin/1-a.wav,a,0,.5,train\nrobin/1-a.wav,b,.5,1,val\n",
            r"row 3: robin/1-a.wav has split 'validation', but 'train' in row 2",
        ),
        ("path,labels,split\nrobin/1-a.wav,a,trian\n", r"row 2: split 'trian' must be one of"),
        ("path,labels,datetime\nrobin/1-a.wav,a,soon\n", r"row 2: 'soon' is not a date such as"),
    ],
)
def test_an_error_in_a_csv_names_file_and_row(folder: Path, text: str, expected: str):
    with pytest.raises(ValueError, match=expected):
        read_csv(folder, text)


def test_overlapping_spans_give_a_warning(folder: Path):
    rows = "robin/1-a.wav,a,0,0.6\nrobin/2-b.wav,a,0,1\nrobin/1-a.wav,b,0.5,1\n"
    with pytest.warns(UserWarning, match="1 spans overlap others .* first in row 4; if their"):
        assert len(read_csv(folder, f"path,labels,start,end\n{rows}")) == 3


def test_semicolons_decimal_commas_clocks_and_utf_16_are_read(folder: Path):
    text = "Path;Labels;Start;End;Weight\nrobin/1-a.wav;a;0,25;0:00:00,75;0,5\nrobin/2-b.wav;a;;;\n"
    recordings = read_csv(folder, text)
    assert (
        recordings.numeric_column("start")[0] == 0.25
        and recordings.numeric_column("end")[0] == 0.75
    )
    assert np.isnan(recordings.numeric_column("start")[1])
    assert recordings.numeric_column("weight").tolist() == [0.5, 1]
    (folder / "utf16.csv").write_text("path\tlabels\nrobin/1-a.wav\tRöte\n", encoding="utf-16")
    recordings = read("csv", folder, table=str(folder / "utf16.csv")).recordings
    assert recordings.labels.codes == ("Röte",)


def test_an_error_in_the_encoding_names_the_row(folder: Path):
    file = folder / "mixed.csv"
    text = "path,labels\nrobin/1-a.wav,Röte\n"
    file.write_bytes(text.encode() + "robin/2-b.wav,Röte\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"mixed.csv, row 3: not UTF-8; save the file as"):
        read("csv", folder, table=str(file))


def test_a_blank_weight_is_one_and_a_blank_group_is_a_group_of_its_own(folder: Path):
    text = "path,labels,group,weight\nrobin/1-a.wav,a,,\nrobin/2-b.wav,a,,0.5\n"
    recordings = read_csv(folder, text)
    assert recordings.numeric_column("weight").tolist() == [1, 0.5]
    assert len(set(recordings.groups)) == 2


def test_labels_of_a_csv_may_be_lists_as_birdclef_writes_them(folder: Path):
    header = "path,labels,secondary_labels\n"
    row = "robin/1-a.wav,a;b,\"['c', 'd']\"\n"
    recordings = read_csv(folder, header + row, secondary="positive")
    assert recordings.labels.codes == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match=r"table.csv, row 2: .* is not a list of labels such as"):
        read_csv(folder, header + row.replace("]", ""))


def test_the_missing_value_of_r_is_a_blank_cell(folder: Path):
    header = '"path","labels","group","start","end","weight"\n'
    rows = '"robin/1-a.wav","a",NA,NA,NA,5e-04\n"robin/2-b.wav",NA,NA,NA,NA,NA\n'
    recordings = read_csv(folder, header + rows)
    assert recordings.labels.codes == ("a",) and recordings.label_codes_of_row(1) == ()
    assert recordings.groups == recordings.paths
    assert recordings.numeric_column("weight").tolist() == pytest.approx([5e-4, 1])
    assert np.isnan(recordings.numeric_column("start")).all()


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("auto", ["ann", "bob"]),
        ("recordist", ["ann", "bob"]),
        ("site", ["bog", "bog"]),
        ("date", ["2024-05-01", "2024-05-02"]),
        ("recording", ["robin/1-a.wav", "robin/2-b.wav"]),
    ],
)
def test_groups_are_those_of_the_setting(folder: Path, group_by: str, expected: list[str]):
    text = (
        "path,labels,recordist,site,datetime\n"
        "robin/1-a.wav,a,ann,bog,2024-05-01 05:30:00\nrobin/2-b.wav,a,bob,bog,2024-05-02T06:00\n"
    )
    assert read_csv(folder, text, group_by=group_by).groups == expected


def test_grouping_by_a_missing_column_is_refused(folder: Path):
    with pytest.raises(ValueError, match="data.group_by='site' is unknown; valid names"):
        read_folder(folder, group_by="site")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SMU_20240501_053000.wav", "2024-05-01 05:30:00"),
        ("20240501T053000.flac", "2024-05-01 05:30:00"),
        ("a/41_SSW_20190612.ogg", "2019-06-12 00:00:00"),
        ("BC2026_Test_0001_S05_20250227_010002.ogg", "2025-02-27 01:00:02"),
        ("xc20241399.ogg", None),
        ("99999999.wav", None),
    ],
)
def test_the_start_time_is_parsed_from_the_file_name(name: str, expected: str | None):
    assert str(parse_start_time_from_name(name)) == str(expected)


@pytest.mark.parametrize("secondary", ["unknown", "ignore"])
def test_classes_that_are_never_positive_are_left_out(folder: Path, secondary: str):
    text = "path,labels,secondary_labels\nrobin/1-a.wav,a,wren\nwren/1-c.wav,b,a;wren\n"
    recordings = read_csv(folder, text, secondary=secondary)
    assert recordings.labels.codes == ("a", "b")
    assert recordings.table["unknown"].to_pylist() == [[], [0] if secondary == "unknown" else []]


@pytest.mark.parametrize(
    ("secondary", "target", "known"),
    [
        ("positive", [1, 1], [True, True]),
        ("soft", [1, 0.9], [True, True]),
        ("unknown", [1, 0], [True, False]),
        ("ignore", [1, 0], [True, True]),
    ],
)
def test_secondary_labels_are_treated_as_set(
    folder: Path, secondary: str, target: list, known: list
):
    text = "path,labels,secondary_labels\nrobin/1-a.wav,a,b;a\nwren/1-c.wav,b,\n"
    recordings = read_csv(folder, text, secondary=secondary)
    assert recordings.targets()[0] == pytest.approx(np.array(target))
    unknown = recordings.ragged_column("unknown")[1]
    assert [column not in unknown for column in (0, 1)] == known


def test_excluded_recordings_are_left_out(folder: Path):
    write_text(folder / "exclude.txt", "wren/1-c.wav \nnot/here.wav\n\n")
    with pytest.warns(UserWarning, match="exclude.txt: 1 lines match no .*'not/here.wav'"):
        recordings = read_folder(folder, exclude=str(folder / "exclude.txt"))
    assert "wren/1-c.wav" not in recordings.paths and len(recordings) == 3


def test_numbers_with_thousands_separators_are_refused(tmp_path: Path):
    file = write_text(tmp_path / "t.csv", 'a\n"1,234.5"\n')
    with pytest.raises(ValueError, match=r"t.csv, row 2: a '1,234.5' is not a number"):
        TextTable(file).number_column("a")


# ---------------------------------------------------------------- BirdCLEF


def birdclef(root: Path, train: str, soundscapes: str = "") -> Path:
    write_wave(root / "train_audio/22961/a.wav")
    write_wave(root / "train_audio/rufhor2/b.wav")
    write_wave(root / "train_soundscapes/s1.wav", seconds=10)
    write_text(
        root / "taxonomy.csv",
        "primary_label,common_name\nrufhor2,Rufous Hornbill\n22961,Grey Frog\n",
    )
    write_text(root / "train.csv", train)
    if soundscapes:
        write_text(root / "train_soundscapes_labels.csv", soundscapes)
    return root


TRAIN = """primary_label,secondary_labels,filename,author,rating
22961,"['rufhor2', 'notinset']",22961/a.wav,Ann,4.0
rufhor2,"['']",rufhor2/b.wav,Bob,0
"""


def test_a_birdclef_folder_is_read_despite_its_irregularities(tmp_path: Path):
    labelled = (
        "filename,start,end,primary_label\n"
        "s1.wav,00:00:00,00:00:05,22961;rufhor2\n"
        "s1.wav,00:00:00,00:00:05,22961;rufhor2\n"
        "s1.wav,00:00:05,00:00:10,\n"
    )
    source = read("birdclef", birdclef(tmp_path, TRAIN, labelled))
    recordings, soundscapes = source.recordings, source.soundscapes
    assert recordings.labels == Labels(("22961", "rufhor2"), ("Grey Frog", "Rufous Hornbill"))
    assert recordings.targets() == pytest.approx(np.array([[1, 0.9], [0, 1]]))
    assert recordings.numeric_column("weight").tolist() == pytest.approx([0.8, 0.6])
    assert recordings.groups == ["Ann", "Bob"]
    assert soundscapes is not None
    assert soundscapes.targets().tolist() == [[1, 1], [0, 0]]
    assert soundscapes.numeric_column("start").tolist() == [0, 5]
    assert soundscapes.numeric_column("end").tolist() == [5, 10]


@pytest.mark.parametrize(
    "cell",
    [
        "'rufhor2'",
        "rufhor2",
        "('rufhor2')",
        "{'rufhor2': 1}",
        "[22961]",
        "[['rufhor2']]",
        "['rufhor2', None]",
        "['rufhor2'",
        '[""rufhor2"" ""]',
    ],
)
def test_secondary_labels_must_be_a_flat_list_of_strings(tmp_path: Path, cell: str):
    train = TRAIN.replace("\"['']\"", f'"{cell}"')
    with pytest.raises(ValueError, match=r"train.csv, row 3: .* is not a list of labels such as"):
        read("birdclef", birdclef(tmp_path, train))


@pytest.mark.parametrize("cell", ["[' 22961 ']", "['22961', '22961', '']", '[""22961""]'])
def test_secondary_labels_are_stripped_and_unique(tmp_path: Path, cell: str):
    train = TRAIN.replace("\"['']\"", f'"{cell}"').replace(", 'notinset'", "")
    recordings = read("birdclef", birdclef(tmp_path, train)).recordings
    assert recordings.targets() == pytest.approx(np.array([[1, 0.9], [0.9, 1]]))


def test_secondary_labels_outside_of_the_label_set_are_listed_in_a_warning(tmp_path: Path):
    train = TRAIN.replace("['']", "['notinset', ' other ']")
    with pytest.warns(UserWarning, match=r"3 secondary labels \(2 distinct\) .*: notinset, other"):
        read("birdclef", birdclef(tmp_path, train))


def write_year(root: Path, year: int) -> None:
    """Write a folder in the layout of that year: two labels, one of them a number."""
    audio = "train_short_audio" if year == 2021 else "train_audio"
    for path in ("1e5/XC1.ogg", "acafly/XC2.ogg"):
        write_wave((root / audio / path).with_suffix(".wav"))
    folder = "" if year == 2021 else "{}/"
    rows = [
        f"1e5,\"['acafly']\",Ann,3,2020-05-01,{folder.format('1e5')}XC1.wav",
        f'acafly,"[]",Bob,0,2020-05-02,{folder.format("acafly")}XC2.wav',
    ]
    text = "\n".join(["primary_label,secondary_labels,author,rating,date,filename", *rows]) + "\n"
    write_text(root / ("train.csv" if year >= 2025 else "train_metadata.csv"), text)
    if year == 2021:
        write_wave(root / "train_soundscapes/7019_COR_20190904.wav", seconds=10)
        write_text(
            root / "train_soundscape_labels.csv",
            "row_id,site,audio_id,seconds,birds\n"
            "7019_COR_5,COR,7019,5,nocall\n7019_COR_10,COR,7019,10,acafly 1e5\n",
        )
    if year == 2022:
        write_text(root / "scored_birds.json", '["acafly"]')
    if year == 2024:
        (root / "unlabeled_soundscapes").mkdir()
    if year == 2025:
        write_text(root / "recording_location.txt", "El Silencio\n")
    if year >= 2025:
        write_text(root / "taxonomy.csv", "primary_label,common_name\n1e5,Frog\nacafly,Fly\n")


@pytest.mark.parametrize("year", range(2021, 2027))
def test_the_folder_of_every_year_is_recognized_and_read(tmp_path: Path, year: int):
    from birdmix.competitions import competition_of_folder

    write_year(tmp_path, year)
    assert competition_of_folder(tmp_path).name == f"birdclef-{year}"
    source = read("birdclef", tmp_path)
    assert source.recordings.labels.codes == ("1e5", "acafly")
    assert source.recordings.targets() == pytest.approx(np.array([[1, 0.9], [0, 1]]))
    assert source.recordings.groups == ["Ann", "Bob"]
    assert (source.soundscapes is not None) is (year == 2021)
    if source.soundscapes is not None:
        assert source.soundscapes.targets().tolist() == [[0, 0], [1, 1]]
        assert source.soundscapes.numeric_column("start").tolist() == [0, 5]
    assert read("birdclef", tmp_path, group_by="date").recordings.groups[0] == "2020-05-01"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("s1.wav,00:00:10,00:00:05,", r"labels.csv, row 4: start and end in seconds need"),
        ("s1.wav,00:00:05,so:on,", r"labels.csv, row 4: end 'so:on' is not a time such as"),
        ("s1.wav,00:00:05,00:00:10,rufhor", r"row 4: label 'rufhor' is not in the taxonomy"),
        ("s1.wav,00:00:05,00:00:20,", r"row 4: the span from 5 to 20 s exceeds the end"),
        ("s1.wav,00:00:00,00:00:05,", r"row 4: the same window occurs with .* labels in row 2"),
        ("s2.wav,00:00:05,00:00:10,", r"row 4: no recording at .*s2.wav"),
    ],
)
def test_an_error_in_soundscape_labels_names_the_row(tmp_path: Path, row: str, expected: str):
    listed = "s1.wav,00:00:00,00:00:05,22961\n" * 2  # twice, so that rows are dropped before it
    labels = f"filename,start,end,primary_label\n{listed}{row}\n"
    with pytest.raises(ValueError, match=expected):
        read("birdclef", birdclef(tmp_path, TRAIN, labels))


def test_the_error_for_a_label_outside_the_taxonomy_names_the_row(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train.csv, row 3: label 'rufhor' is not in the tax"):
        read("birdclef", birdclef(tmp_path, TRAIN.replace("\nrufhor2", "\nrufhor")))


def test_the_error_for_a_repeated_recording_names_both_rows(tmp_path: Path):
    again = "22961,[],22961/a.wav,Cy,5\n"
    with pytest.raises(ValueError, match=r"train.csv, row 4: the same recording occurs in row 2"):
        read("birdclef", birdclef(tmp_path, TRAIN + again))


def test_a_folder_that_is_not_a_competition_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"not a BirdCLEF folder; those of 2021 to 2026 hold one"):
        read("birdclef", tmp_path)
    write_text(tmp_path / "taxonomy.csv", "primary_label\n")
    with pytest.raises(ValueError, match=r"train.csv: no such file; a birdclef-2026 folder holds"):
        read("birdclef", tmp_path)


# ---------------------------------------------------------------- folds


def test_folds_partition_the_recordings_and_share_no_group():
    rng = np.random.default_rng(0)
    recordings = table([f"g{g}" for g in rng.integers(0, 12, 80)], list(rng.choice(["a", "b"], 80)))
    held_out_paths = []
    for fold in range(4):
        train, held_out = split_by_fold(recordings, 4, fold)
        assert not set(train.groups) & set(held_out.groups)
        assert len(train) + len(held_out) == 80
        held_out_paths.extend(held_out.paths)
    assert sorted(held_out_paths) == sorted(recordings.paths)


def test_folds_hold_their_share_of_every_label_of_multi_label_recordings():
    rng = np.random.default_rng(0)
    codes = [tuple(c for c, p in (("a", 0.9), ("b", 0.3), ("c", 0.05)) if rng.random() < p)
             for _ in range(400)]  # fmt: skip
    recordings = table([f"g{g}" for g in rng.integers(0, 150, 400)], codes)
    counts = np.stack(
        [split_by_fold(recordings, 5, fold)[1].targets().sum(axis=0) for fold in range(5)]
    )
    mean = counts.mean(axis=0)
    assert (np.abs(counts - mean) <= np.maximum(0.1 * mean, 1)).all()


def test_folds_depend_on_the_recordings_and_not_on_their_order():
    rng = np.random.default_rng(1)
    recordings = table(
        [f"g{g}" for g in rng.integers(0, 20, 60)], list(rng.choice(list("abc"), 60))
    )
    order = rng.permutation(60)
    folds = assign_folds(recordings.take(order), 4)
    assert (folds == assign_folds(recordings, 4)[order]).all()


def test_published_folds_are_kept_when_groups_are_folds():
    recordings = table(["1", "2", "3", "4"] * 10, ["a", "b"] * 20)
    for fold in range(4):
        assert len(set(split_by_fold(recordings, 4, fold)[1].groups)) == 1


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="form only 1 groups"):
        split_by_fold(table(["x"] * 9, ["a"] * 9), 3, 0)


def test_one_recording_per_class_can_be_split_by_group():
    recordings = table([f"g{i}" for i in range(6)], list("abcdef"))
    assert len(split_by_fold(recordings, 3, 0)[1]) == 2


def test_labels_in_few_groups_are_returned():
    recordings = table(["1", "1", "2", "3"], ["a", "a", "b", "b"])
    assert labels_in_few_groups(recordings, 2) == ["a"]


# ---------------------------------------------------------------- data splits


def split_table(groups: list[str], given: list[str]) -> SourceRecordings:
    paths = [f"{at}.wav" for at in range(len(groups))]
    codes = [("a",)] * len(groups)
    labels = Labels(("a",))
    return SourceRecordings(
        Recordings.build(Path(), labels, path=paths, codes=codes, group=groups, split=given)
    )


def test_a_given_split_is_used_and_its_test_recordings_are_left_out():
    source = split_table(list("abcd"), ["train", "validation", "test", "train"])
    splits = split_data(source, DataSettings())
    assert splits.train.paths == ["0.wav", "3.wav"]
    assert splits.validation["validation"].paths == ["1.wav"]


def test_a_group_in_both_training_and_validation_is_refused():
    source = split_table(["ann", "ann"], ["train", "validation"])
    with pytest.raises(ValueError, match="1 groups are both in .*: ann; correct the column"):
        split_data(source, DataSettings())


def soundscapes_of(recordings: Recordings, num_files: int) -> Recordings:
    paths = [f"s{at}.wav" for at in range(num_files) for _ in range(2)]
    return Recordings.build(
        Path(), recordings.labels, path=paths, codes=[("a",)] * len(paths),
        start=[0, 5] * num_files, end=[5, 10] * num_files,
    )  # fmt: skip


def test_soundscapes_are_mixed_in_or_validated_on_but_never_both():
    recordings = table(list("pqrs"), ["a"] * 4)
    source = SourceRecordings(recordings, soundscapes_of(recordings, 10))
    settings = DataSettings(fold=None, pools={"soundscapes": PoolSettings()})
    splits = split_data(source, settings)
    held_out = splits.validation["validation_soundscape"]
    assert len(held_out) == 4 and len(splits.pools["soundscapes"]) == 16
    assert not set(held_out.paths) & set(splits.pools["soundscapes"].paths)
    with pytest.raises(ValueError, match=r"data.pools.soundscapes: this data has no soundscapes"):
        split_data(SourceRecordings(recordings), settings)


def test_held_out_recordings_are_removed_from_all_other_sources(tmp_path: Path):
    for name in ("a", "b", "c", "d"):
        write_wave(tmp_path / "data" / f"{name}.wav", seconds=5)
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    text = "path,labels,split\na.wav,x,train\nb.wav,x,validation\nc.wav,x,test\n"
    recordings = read_csv(tmp_path / "data", text)
    everything = Recordings.build(
        tmp_path / "link", recordings.labels, path=[f"{name}.wav" for name in "abcd"],
        codes=[("x",)] * 4,
    ).with_paths_relative_to(recordings.root)  # fmt: skip
    settings = DataSettings(
        fold=None, pools={"noise": PoolSettings("background", str(tmp_path / "link"))}
    )
    with pytest.warns(UserWarning, match="3 rows are of recordings for validation or test, or"):
        splits = split_data(
            SourceRecordings(recordings),
            settings,
            everything,
            {"noise": everything},
            excluded=["d.wav"],
        )
    assert [Path(path).name for path in splits.train.paths] == ["a.wav", "a.wav"]
    assert [Path(path).name for path in splits.pools["noise"].paths] == ["a.wav"]


def test_pseudo_labels_are_trained_on_or_mixed_in_except_of_held_out_recordings():
    recordings = table(list("pqrs"), ["a"] * 4)
    soundscapes = soundscapes_of(recordings, 2)
    source = SourceRecordings(recordings, soundscapes.take(np.array([0, 1])))
    with pytest.warns(UserWarning, match="pseudo: 2 rows are of recordings for validation"):
        splits = split_data(source, DataSettings(fold=None), pseudo=soundscapes)
    assert len(splits.train) == 6 and not splits.pools
    settings = DataSettings(
        fold=None, pseudo=PseudoSettings("x.csv"), pools={"windows": PoolSettings("pseudo")}
    )
    splits = split_data(SourceRecordings(recordings), settings, pseudo=soundscapes)
    assert len(splits.train) == 4 and len(splits.pools["windows"]) == 4


def test_a_pool_of_recordings_has_the_training_recordings_only():
    settings = DataSettings(num_folds=2, pools={"recordings": PoolSettings()})
    splits = split_data(SourceRecordings(table(list("pqrs"), ["a"] * 4)), settings)
    assert splits.pools["recordings"].paths == splits.train.paths and len(splits.train) == 2


def test_a_labelled_pool_has_no_recording_of_a_group_that_is_validated_on():
    source = split_table(["ann", "bob"], ["train", "validation"])
    pool = Recordings.build(
        Path(), source.recordings.labels, path=["x.wav", "y.wav"], codes=[(), ()],
        group=["bob", "eve"],
    )  # fmt: skip
    settings = DataSettings(pools={"own": PoolSettings("folder", "x")})
    with pytest.warns(UserWarning, match=r"data.pools.own: 1 rows are of groups for validation"):
        splits = split_data(source, settings, pool_folders={"own": pool})
    assert splits.pools["own"].paths == ["y.wav"]
    all_held_out = {"own": pool.take(np.array([0]))}
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"data.pools.own: none of its recordings are left"),
    ):
        split_data(source, settings, pool_folders=all_held_out)


# ---------------------------------------------------------------- folders of pools


def test_the_class_folders_of_a_pool_have_the_labels_of_the_run(tmp_path: Path):
    for path in ("own/robin/1.wav", "own/nocall/2.wav", "own/wren/deep/3.wav"):
        write_wave(tmp_path / path)
    settings = DataSettings(
        source="folder",
        negative=["nocall"],
        pools={"own": PoolSettings("folder", f"{tmp_path}/own")},
    )
    labels = Labels(("blackbird", "robin", "wren"))
    recordings = read_pool_folder(settings, "own", labels)
    codes = {path: recordings.label_codes_of_row(row) for row, path in enumerate(recordings.paths)}
    expected = {"robin/1.wav": ("robin",), "nocall/2.wav": (), "wren/deep/3.wav": ("wren",)}
    assert codes == expected and recordings.labels == labels
    expected_line = (
        "own: 1 folders are no label of this run: wren; rename them to labels of the run"
    )
    with pytest.raises(ValueError, match=rf"data.pools.own.root=.*/{expected_line}"):
        read_pool_folder(settings, "own", Labels(("robin",)))


@pytest.mark.parametrize("source", ["background", "folder"])
def test_a_pool_without_recordings_is_refused(tmp_path: Path, source: str):
    for folder, expected in ((tmp_path, "no recordings in"), (tmp_path / "x", "no such folder")):
        settings = DataSettings(pools={"own": PoolSettings(source, str(folder))})
        with pytest.raises(ValueError, match=f"data.pools.own.root={folder}: {expected}"):
            read_pool_folder(settings, "own", Labels(("a",)))


def test_recordings_without_metadata_are_grouped_by_their_names():
    paths = ["d/S01_20250102_030405.wav", "d/S02_20250102_040506.wav", "d/x.wav"]
    assert assign_groups_by_name(paths) == paths
    assert assign_groups_by_name(paths, "date") == ["2025-01-02", "2025-01-02", "d/x.wav"]
    assert assign_groups_by_name(paths, pattern=r"(S\d+)_") == ["S01", "S02", "d/x.wav"]
    assert assign_groups_by_name(paths, "recording", r"(S\d+)_") == paths


# ---------------------------------------------------------------- pseudo labels


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_become_soft_labels_with_a_threshold_a_cap_and_a_weight(
    tmp_path: Path, suffix: str
):
    write_wave(tmp_path / "s.wav", seconds=10)
    predictions = pd.DataFrame(
        {
            "path": ["s.wav", "s.wav"],
            "start_seconds": [0.0, 5.0],
            "end_seconds": [5.0, 10.0],
            "1e5": [0.9, 0.01],
            "b": [0.6, 0.3],
            "other": [0.5, 0.5],
            "warning": ["", ""],
        }
    )
    file = tmp_path / f"predictions{suffix}"
    predictions.to_csv(file, index=False) if suffix == ".csv" else predictions.to_parquet(file)
    settings = PseudoSettings(str(file), threshold=0.1, cap=0.75, weight=0.5)
    with pytest.warns(UserWarning, match="no column for 1 of 3 labels, which are unknown in .*: c"):
        recordings = read_pseudo_labels(settings, Labels(("1e5", "b", "c")), follow_links=False)
    assert recordings.targets() == pytest.approx(np.array([[0.45, 0.3, 0], [0, 0.3, 0]]))
    assert recordings.ragged_column("unknown")[1].tolist() == [2, 2]
    assert recordings.numeric_column("weight").tolist() == [0.5, 0.5]
    assert recordings.numeric_column("start").tolist() == [0, 5]
    with pytest.raises(ValueError, match="no column is a label of this run"):
        read_pseudo_labels(settings, Labels(("z",)), follow_links=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"end_seconds": [5.0, np.inf]}, "row 3: start_seconds and end_seconds need"),
        ({"end_seconds": [5.0, 1e300]}, "row 3: start_seconds and end_seconds need"),
        ({"start_seconds": [-1.0, 0.0]}, "row 2: start_seconds and end_seconds need"),
        ({"start_seconds": ["soon", "0"]}, "row 2: start_seconds is not a number"),
        ({"a": [np.nan, 0.5]}, "row 2: a is not a number"),
        ({"a": [2.0, 0.5]}, "row 2: a probability must be in [0, 1]"),
        ({"a": [[0.1], [0.2]]}, "row 2: a is not a number"),
        ({"path": [1, 2]}, "row 2: path is not text"),
        ({"path": [b"\xff", b"x.wav"]}, "row 2: path is not text"),
        ({"path": ["../../etc/passwd", "x.wav"]}, "row 2: path '../../etc/passwd' leaves"),
    ],
)
def test_the_error_for_a_wrong_cell_of_predictions_names_its_row(
    tmp_path: Path, changes: dict, expected: str
):
    write_wave(tmp_path / "x.wav")
    values = {"path": ["x.wav"] * 2, "start_seconds": [0.0, 5.0], "end_seconds": [5.0, 10.0]}
    pd.DataFrame(values | {"a": [0.5, 0.5]} | changes).to_parquet(tmp_path / "t.parquet")
    settings = PseudoSettings(str(tmp_path / "t.parquet"))
    with pytest.raises(ValueError) as error:
        read_pseudo_labels(settings, Labels(("a",)), follow_links=False)
    assert f"{tmp_path / 't.parquet'}, {expected}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,start_seconds,end_seconds,a,a\nx.wav,0,5,.1,.2\n", "column 'a' occurs twice"),
        (f"path,start_seconds,end_seconds,a\nx.wav,0,{'9' * 400},.1\n", "more than 300 digits"),
        ('path,start_seconds,end_seconds,a\n"x.wav,0,5,.1\n', "EOF inside string"),
        ("", "No columns to parse"),
        ("\x00\x01\x02\n,,,\n,\n", "not a table of predictions"),
    ],
)
def test_the_error_for_a_file_without_predictions_is_one_line(
    tmp_path: Path, text: str, expected: str
):
    write_wave(tmp_path / "x.wav")
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError) as error:
            settings = PseudoSettings(str(tmp_path / name))
            read_pseudo_labels(settings, Labels(("a",)), follow_links=False)
        message = str(error.value)
        assert message.startswith(f"{tmp_path / name}: ") and "\n" not in message
        assert expected in message or name == "t.parquet"


# ---------------------------------------------------------------- real tables


def test_published_folds_of_real_recordings_are_kept(real_audio: Path):
    recordings = read_folder(real_audio / "esc10", group_pattern=r"^(\d)-")
    assert len(recordings) == 320 and len(recordings.labels) == 10
    for fold in range(4):
        _, held_out = split_by_fold(recordings, 4, fold)
        assert len(held_out) == 80 and len(set(held_out.groups)) == 1


def test_real_tables_are_read(real_audio: Path):
    for name, num_classes in (("family", 8), ("species", 30)):
        file = real_audio / f"birds_{name}.csv"
        recordings = read("csv", real_audio, table=str(file)).recordings
        assert len(recordings) == 60 and len(recordings.labels) == num_classes
        train, held_out = split_by_fold(recordings, 4, 0)
        assert not set(train.groups) & set(held_out.groups)
