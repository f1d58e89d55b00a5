"""Readers, folds, stores and batches."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from birdmix.labels import Labels
from birdmix.recordings.batches import EpochBatches, Segments, Windows, end_workers, loader
from birdmix.recordings.folds import split
from birdmix.recordings.readers import read_birdclef, read_csv, read_folder
from birdmix.recordings.store import FileStore, MemoryStore, open_store
from birdmix.recordings.table import Recordings

RATE = 8000


def write_wave(file: Path, seconds: float = 1.0, value: float | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    num_samples = int(seconds * RATE)
    ramp = np.linspace(0, 0.5, num_samples) if value is None else np.full(num_samples, value)
    soundfile.write(file, ramp, RATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav"):
        write_wave(tmp_path / path)
    write_wave(tmp_path / "loose.wav")
    return tmp_path


def csv(folder: Path, text: str) -> Path:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return folder / "table.csv"


# ---------------------------------------------------------------- readers


def test_a_folder_per_class_is_read(folder: Path):
    recordings = read_folder(folder, group_pattern=r"^(\d)-")
    assert recordings.labels.codes == ("robin", "wren")
    assert recordings.table["path"].tolist() == [
        "robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav",
    ]  # fmt: skip
    assert recordings.table["group"].tolist() == ["1", "2", "1", "2"]
    assert recordings.targets().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_a_folder_without_class_folders_is_refused(tmp_path: Path):
    write_wave(tmp_path / "loose.wav")
    with pytest.raises(ValueError, match="no recordings in class folders"):
        read_folder(tmp_path)


def test_a_csv_keeps_labels_as_strings_and_paths_relative_to_itself(folder: Path):
    table = csv(folder, "path,labels,group\nrobin/1-a.wav,22961;1e5,ann\nwren/1-c.wav,,bob\n")
    recordings = read_csv(table)
    assert recordings.labels.codes == ("1e5", "22961")
    assert recordings.table["codes"].tolist() == [("22961", "1e5"), ()]
    assert recordings.table["group"].tolist() == ["ann", "bob"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nrobin/1-a.wav,a\n", r"table.csv: no column 'labels'; did you mean 'label'"),
        ("path,labels\n", r"table.csv: no rows"),
        ("", r"table.csv: not a CSV"),
        ("path,labels\nrobin/1-a.wav,a\nrobin/9.wav,a\n", r"row 3: no recording at .*9.wav"),
        ("path,labels\n../x.wav,a\n", r"row 2: path '../x.wav' leaves the data root"),
        ("path,labels,weight\nrobin/1-a.wav,a,heavy\n", r"row 2: weight 'heavy' is no number"),
        ("path,labels,weight\nrobin/1-a.wav,a,-1\n", r"row 2: a weight is not negative"),
        ("path,labels,start,end\nrobin/1-a.wav,a,4,\n", r"row 2: start and end in seconds need"),
        ("path,labels,start,end\nrobin/1-a.wav,a,4,3\n", r"row 2: .* 0 <= start < end"),
        ("path,labels\nrobin/1-a.wav,\n", r"no row has a label"),
    ],
)
def test_a_wrong_csv_is_told_by_file_and_row(folder: Path, text: str, expected: str):
    with pytest.raises(ValueError, match=expected):
        read_csv(csv(folder, text))


def birdclef(root: Path, train: str, soundscapes: str = "") -> Path:
    write_wave(root / "train_audio/22961/a.ogg".replace(".ogg", ".wav"))
    write_wave(root / "train_audio/rufhor2/b.wav")
    write_wave(root / "train_soundscapes/s1.wav", seconds=10)
    (root / "taxonomy.csv").write_text(
        "primary_label,common_name\nrufhor2,Rufous Hornbill\n22961,Grey Frog\n"
    )
    (root / "train.csv").write_text(train)
    if soundscapes:
        (root / "train_soundscapes_labels.csv").write_text(soundscapes)
    return root


TRAIN = """primary_label,secondary_labels,filename,author,rating
22961,"['rufhor2', 'notinset']",22961/a.wav,Ann,4.0
rufhor2,"['']",rufhor2/b.wav,Bob,0
"""


def test_a_birdclef_folder_is_read_with_all_its_traps(tmp_path: Path):
    labelled = (
        "filename,start,end,primary_label\n"
        "s1.wav,00:00:00,00:00:05,22961;rufhor2\n"
        "s1.wav,00:00:00,00:00:05,22961;rufhor2\n"
        "s1.wav,00:00:05,00:00:10,\n"
    )
    source = read_birdclef(birdclef(tmp_path, TRAIN, labelled), secondary_value=0.9)
    recordings, soundscapes = source.recordings, source.soundscapes
    assert recordings.labels == Labels(("22961", "rufhor2"), ("Grey Frog", "Rufous Hornbill"))
    assert recordings.targets() == pytest.approx(np.array([[1, 0.9], [0, 1]]))
    assert recordings.table["weight"].tolist() == pytest.approx([0.8, 0.6])
    assert recordings.table["group"].tolist() == ["Ann", "Bob"]
    assert soundscapes is not None
    assert soundscapes.targets().tolist() == [[1, 1], [0, 0]]
    assert soundscapes.table["start"].tolist() == [0, 5]
    assert soundscapes.table["end"].tolist() == [5, 10]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("s1.wav,00:00:10,00:00:05,", r"labels.csv, row 4: start and end in seconds need"),
        ("s1.wav,00:00:05,soon,", r"labels.csv, row 4: end 'soon' is no time like 00:01:05"),
    ],
)
def test_wrong_times_of_a_soundscape_are_told_by_row(tmp_path: Path, row: str, expected: str):
    listed = "s1.wav,00:00:00,00:00:05,22961\n" * 2  # twice, so that rows are dropped before it
    labels = f"filename,start,end,primary_label\n{listed}{row}\n"
    with pytest.raises(ValueError, match=expected):
        read_birdclef(birdclef(tmp_path, TRAIN, labels), 0.9)


def test_a_label_outside_the_taxonomy_is_told_by_row(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train.csv, row 3: label 'rufhor' is not in the tax"):
        read_birdclef(birdclef(tmp_path, TRAIN.replace("\nrufhor2", "\nrufhor")), 0.9)


def test_a_folder_that_is_no_competition_is_told(tmp_path: Path):
    with pytest.raises(ValueError, match=r"taxonomy.csv: no such file; a birdclef-2026 folder"):
        read_birdclef(tmp_path, 0.9)


# ---------------------------------------------------------------- folds


def table(groups: list[str], codes: list[str]) -> Recordings:
    columns = {
        "path": [f"{i}.wav" for i in range(len(groups))],
        "codes": [(code,) for code in codes],
        "values": [(1.0,)] * len(codes),
        "group": groups,
    }
    return Recordings.build(Path(), columns, Labels(tuple(sorted(set(codes)))))


def test_no_group_stands_on_both_sides_and_folds_partition():
    rng = np.random.default_rng(0)
    recordings = table([f"g{g}" for g in rng.integers(0, 12, 80)], list(rng.choice(["a", "b"], 80)))
    held = []
    for fold in range(4):
        train, held_out = split(recordings, 4, fold)
        assert not set(train.table["group"]) & set(held_out.table["group"])
        assert len(train) + len(held_out) == 80
        held.extend(held_out.table["path"])
    assert sorted(held) == sorted(recordings.table["path"])


def test_published_folds_are_kept_when_groups_are_folds():
    recordings = table(["1", "2", "3", "4"] * 10, ["a", "b"] * 20)
    for fold in range(4):
        assert split(recordings, 4, fold)[1].table["group"].nunique() == 1


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="form only 1 groups"):
        split(table(["x"] * 9, ["a"] * 9), 3, 0)


# ---------------------------------------------------------------- stores


def test_memory_and_files_hold_the_same_sound(folder: Path):
    recordings = read_folder(folder)
    _, memory = open_store(recordings, 6000, memory_gib=1, max_bad_fraction=0)
    _, files = open_store(recordings, 6000, memory_gib=0, max_bad_fraction=0)
    assert isinstance(memory, MemoryStore) and isinstance(files, FileStore)
    assert memory.num_samples("robin/1-a.wav") == files.num_samples("robin/1-a.wav") == 6000
    a, b = memory.read("robin/1-a.wav", 1000, 800), files.read("robin/1-a.wav", 1000, 800)
    np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("memory_gib", [0, 1])
def test_a_bad_recording_is_reported_once_and_leaves_the_table_whole(
    folder: Path, memory_gib: float
):
    (folder / "robin/0-bad.wav").write_bytes(b"RIFF")
    recordings = read_folder(folder)
    with pytest.warns(UserWarning, match=r"1 of 5 recordings yield no samples.*\n.*0-bad.wav"):
        kept, _ = open_store(recordings, RATE, memory_gib, max_bad_fraction=0.5)
    assert len(kept) == 4
    assert kept.targets().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_too_many_bad_recordings_are_an_error_that_lists_them(folder: Path):
    (folder / "robin/0-bad.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data.max_bad_fraction=0.05.*\n.*0-bad.wav"):
        open_store(read_folder(folder), RATE, 1, max_bad_fraction=0.05)


# ---------------------------------------------------------------- batches


def test_an_epoch_holds_every_row_once_and_a_resumed_one_the_rest():
    whole = list(EpochBatches(10, 4, seed=1, num_epochs=2, drop_last=False))
    for epoch in range(2):
        rows = [row for batch in whole for e, _, row in batch if e == epoch]
        assert sorted(rows) == list(range(10))
    resumed = EpochBatches(10, 4, seed=1, num_epochs=2, drop_last=False, start=(1, 1))
    assert list(resumed) == whole[4:]
    assert len(resumed) == 2


def test_orders_differ_between_epochs_and_seeds():
    def orders(seed: int) -> list:
        return [EpochBatches(50, 5, seed=seed, num_epochs=2).rows(e).tolist() for e in range(2)]

    assert orders(0)[0] != orders(0)[1] != orders(1)[1]


def test_recordings_come_up_as_often_as_asked():
    batches = EpochBatches(5, 5, seed=0, num_epochs=1, segments_per_recording=3)
    assert np.bincount(batches.rows(0)).tolist() == [3] * 5


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(ValueError, match="data.batch_size=8 is above the 5 segments"):
        EpochBatches(5, 8, seed=0, num_epochs=1)


def segments(folder: Path, num_samples: int) -> Segments:
    recordings, store = open_store(read_folder(folder), RATE, 1, 0)
    return Segments(recordings, store, num_samples, RATE, seed=0)


def test_a_segment_depends_on_its_position_alone(folder: Path):
    data = segments(folder, 800)
    alone = data.__getitems__([(0, 5, 2)])
    among = data.__getitems__([(0, 4, 0), (0, 5, 2)])
    assert torch.equal(alone.x[0], among.x[1])
    assert not torch.equal(alone.x[0], data.__getitems__([(0, 6, 2)]).x[0])
    assert not torch.equal(alone.x[0], data.__getitems__([(1, 5, 2)]).x[0])


def test_short_recordings_are_looped_in_training_and_padded_in_validation(folder: Path):
    (looped,) = segments(folder, 2 * RATE).__getitems__([(0, 0, 0)]).x
    assert torch.equal(looped[:RATE], looped[RATE:])
    recordings, store = open_store(read_folder(folder), RATE, 1, 0)
    windows = Windows(recordings, store, 2 * RATE, RATE, max_windows=3)
    (padded,) = windows.__getitems__([windows.keys[0]]).x
    assert padded[RATE:].abs().max() == 0 and padded[:RATE].abs().max() > 0


def test_annotated_parts_are_cut_where_they_stand(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=10)
    recordings = read_csv(csv(tmp_path, "path,labels,start,end\na.wav,x,4,6\n"))
    recordings, store = open_store(recordings, RATE, 1, 0)
    ramp = store.read("a.wav", 0, 10 * RATE)
    windows = Windows(recordings, store, 2 * RATE, RATE, max_windows=9)
    (window,) = windows.__getitems__(windows.keys).x.numpy()
    np.testing.assert_array_equal(window, ramp[4 * RATE : 6 * RATE])
    part = Segments(recordings, store, RATE, RATE, seed=0).__getitems__([(0, 0, 0)]).x[0]
    assert ramp[4 * RATE] <= part.min() and part.max() <= ramp[6 * RATE]


def test_long_recordings_are_heard_in_evenly_spaced_windows(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=10)
    recordings, store = open_store(read_csv(csv(tmp_path, "path,labels\na.wav,x\n")), RATE, 1, 0)
    windows = Windows(recordings, store, RATE, RATE, max_windows=4)
    assert [start // RATE for _, start in windows.keys] == [0, 3, 6, 9]


def test_any_number_of_workers_loads_the_same_batches(folder: Path):
    data = segments(folder, 800)
    loaded = []
    for num_workers in (0, 2):
        batches = EpochBatches(4, 2, seed=3, num_epochs=3)
        loaded.append([batch.x for batch in loader(data, batches, num_workers)])
    assert len(loaded[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(*loaded, strict=True))


def test_a_table_is_filtered_as_one():
    recordings = table(["a", "b", "c"], ["x", "y", "z"])
    kept = recordings.take(np.array([False, True, True]))
    assert kept.table["path"].tolist() == ["1.wav", "2.wav"]
    assert kept.targets().argmax(axis=1).tolist() == [1, 2]
    assert isinstance(kept.table, pd.DataFrame) and kept.table.index.tolist() == [0, 1]


def test_a_few_samples_beyond_the_last_window_get_none_of_their_own(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=2.001)  # encoders pad
    recordings, store = open_store(read_csv(csv(tmp_path, "path,labels\na.wav,x\n")), RATE, 1, 0)
    assert Windows(recordings, store, RATE, RATE, max_windows=9).keys == [(0, 0), (0, RATE)]


def test_a_blank_weight_is_one_and_a_blank_group_is_ones_own(folder: Path):
    text = "path,labels,group,weight\nrobin/1-a.wav,a,,\nrobin/2-b.wav,a,,0.5\n"
    recordings = read_csv(csv(folder, text))
    assert recordings.table["weight"].tolist() == [1, 0.5]
    assert recordings.table["group"].nunique() == 2


def test_a_part_beyond_the_end_is_refused(folder: Path):
    recordings = read_csv(csv(folder, "path,labels,start,end\nrobin/1-a.wav,a,7,9\n"))
    recordings, store = open_store(recordings, RATE, 1, 0)
    with pytest.raises(ValueError, match=r"robin/1-a.wav: the part from 7 to 9 s lies beyond"):
        Segments(recordings, store, RATE, RATE, seed=0)


def test_a_truncated_recording_is_as_long_as_it_decodes(folder: Path):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    file = folder / "robin" / "cut.flac"
    soundfile.write(file, noise, RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _, files = open_store(read_folder(folder), RATE, memory_gib=0, max_bad_fraction=0)
    length = files.num_samples("robin/cut.flac")
    assert 4 * RATE < length < 6 * RATE
    assert len(files.read("robin/cut.flac", length - RATE, RATE // 2)) == RATE // 2


def test_one_recording_per_class_can_be_split_by_group():
    recordings = table([f"g{i}" for i in range(6)], list("abcdef"))
    assert len(split(recordings, 3, 0)[1]) == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_recording_that_breaks_on_the_way_is_told_in_one_line(tmp_path: Path, num_workers: int):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8000), 8000)
    columns = {"path": ["a.wav", "b.wav"], "codes": [("x",)] * 2, "values": [(1.0,)] * 2}
    recordings = Recordings.build(tmp_path, columns, Labels(("x",)))
    _, store = open_store(recordings, 8000, memory_gib=0, max_bad_fraction=0)
    segments = Segments(recordings, store, 4000, 8000, seed=0)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    batches = loader(segments, [[(0, 0, 0)], [(0, 1, 1)]], num_workers)
    loaded = iter(batches)
    assert next(loaded).x.shape == (1, 4000)
    with pytest.raises(
        ValueError, match=r"b.wav: .*; it could be read when the run began"
    ) as error:
        next(loaded)
    assert "\n" not in str(error.value)
    end_workers(batches)
