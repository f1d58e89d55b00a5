"""Detections, and the tables of a prediction."""

import csv
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from birdmix.audio.start_time import TimeZoneConverter
from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.inference.detection_table import read_detection_table
from birdmix.inference.detections import Detection, find_detections
from birdmix.inference.output.formats import (
    PROBABILITIES,
    PROGRAMS,
    TABLES,
    OutputFormat,
    write_formats,
)
from birdmix.inference.output.probabilities import probability_columns
from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.recordings_csv import write_failed
from birdmix.inference.overlaps import (
    RepeatedAudio,
    TimedRecording,
    find_overlaps,
    map_copies_to_originals,
    seconds_between_datetimes,
)
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.species_lookup import read_species_columns
from birdmix.labels import Labels
from birdmix.ownership import LIST, OutputFiles
from birdmix.recordings.annotation_files import Annotation, read_annotations
from birdmix.recordings.pseudo_labels import read_pseudo_labels
from birdmix.recordings.settings import PseudoSettings
from birdmix.text import (
    escape_formula,
    escape_formula_in_path,
    unescape_formula,
    unescape_formula_in_path,
)
from birdmix.windows import MIN_PROBABILITY
from tests.recordings import read, write_wave

LABELS = Labels(("rob", "wren"), ("Robin", "Wren, Eurasian"))
INFO = SharedMetadata(LABELS, Path("sound"), (50, 15000.5), 1)
DETECTIONS, ACTIVITY, EFFORT, RECORDINGS = TABLES


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability)).astype(np.float32)


def detections_of(
    predictions: RecordingPredictions, thresholds: np.ndarray
) -> tuple[Detection, ...]:
    times = predictions.start_seconds, predictions.end_seconds
    return find_detections(*times, predictions.logits, thresholds)


def windows(
    probability: list, hop: float = 5, window: float = 5, path: str = "a/x.wav", warning: str = ""
) -> RecordingPredictions:
    """Windows of two classes, in which the second has a low probability if only one is given."""
    score = logit(np.array(probability, np.float64))
    if score.ndim == 1:
        score = np.stack([score, np.full_like(score, -9)], axis=1)
    start = np.arange(len(score)) * float(hop)
    return RecordingPredictions(
        path, LABELS, start, start + window, score, len(score) * hop, None, warning
    )


def spans(predictions: RecordingPredictions, *thresholds: float) -> list[tuple]:
    found = detections_of(predictions, np.array(thresholds))
    return [(each.start_seconds, each.end_seconds, each.column) for each in found]


def result(
    *detections: Detection | tuple,
    path: str = "a/x.wav",
    recorded_at: datetime | None = None,
    seconds: float = 20,
    probability: list | None = None,
    warning: str = "",
) -> RecordingResult:
    predictions = windows(probability or [0.1] * 4, path=path, warning=warning)
    predictions = replace(predictions, seconds=seconds)
    found = tuple(Detection(*each[:4], each[0] + 2.5) for each in detections)
    deployment = path.rpartition("/")[0] or "top"
    return RecordingResult(predictions, deployment, recorded_at, found)


def write(
    folder: Path,
    formats: OutputFormat | Iterable[OutputFormat],
    recordings: Iterable[RecordingResult],
    info: SharedMetadata = INFO,
) -> Path:
    """Write recordings to a format, or to several; return the folder or file of the last."""
    formats = (formats,) if isinstance(formats, OutputFormat) else tuple(formats)
    write_formats(folder, formats, recordings, info)
    return folder / formats[-1].name


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def test_neighbouring_windows_are_merged_into_one_detection():
    side_by_side = windows([0.9, 0.6, 0.1, 0.7])
    assert spans(side_by_side, 0.5, 0.5) == [(0, 10, 0), (15, 20, 0)]
    overlapping = windows([0.9, 0.1, 0.7], hop=2)  # the third starts in the first
    assert spans(overlapping, 0.5, 0.5) == [(0, 9, 0)]
    gaps = windows([0.9, 0.9], hop=6)
    assert spans(gaps, 0.5, 0.5) == [(0, 5, 0), (6, 11, 0)]


def test_windows_with_rounded_times_are_neighbours():
    assert spans(windows([0.9] * 9, hop=0.1, window=0.1), 0.5, 0.5) == [(0, 0.9, 0)]


def test_confidence_is_the_highest_probability_of_a_detection():
    found = detections_of(windows([0.6, 0.8, 0.7, 0.1, 0.55]), np.array([0.5, 0.5]))
    assert [each.confidence for each in found] == pytest.approx([0.8, 0.55])


def test_the_peak_is_the_middle_of_the_first_window_with_the_highest_probability():
    two = [[0.6, 0.1], [0.8, 0.7], [0.8, 0.9], [0.1, 0.1], [0.55, 0.1]]
    found = detections_of(windows(two, hop=2.5), np.array([0.5, 0.5]))
    assert [(each.column, each.peak_seconds) for each in found] == [(0, 5), (1, 7.5)]
    apart = detections_of(windows(two), np.array([0.5, 0.5]))
    assert [(each.column, each.peak_seconds) for each in apart] == [(0, 7.5), (1, 12.5), (0, 22.5)]


def test_each_class_has_its_threshold_and_nan_is_never():
    predictions = windows([[0.3, 0.6], [0.3, 0.3]])
    assert spans(predictions, 0.2, 0.5) == [(0, 10, 0), (0, 5, 1)]
    assert spans(predictions, np.nan, 0.5) == [(0, 5, 1)]
    assert spans(predictions, 1, np.nan) == []
    assert spans(predictions, 0, np.nan) == [(0, 10, 0)]


def test_a_probability_at_its_threshold_is_a_detection():
    predictions = windows(np.linspace(0.01, 0.99, 99).tolist())
    for window, threshold in enumerate(predictions.probability[:, 0]):
        assert spans(predictions, threshold, np.nan) == [(5 * window, 495, 0)]


def test_detections_are_sorted_by_start_then_column():
    found = spans(windows([[0.1, 0.9], [0.9, 0.1], [0.1, 0.1], [0.9, 0.9]]), 0.5, 0.5)
    assert found == [(0, 5, 1), (5, 10, 0), (15, 20, 0), (15, 20, 1)]


def test_detections_do_not_depend_on_the_block_size(monkeypatch):
    rng = np.random.default_rng(0)
    start = np.arange(50) * 2.0
    labels = Labels(tuple("abcdefg"))
    logits = rng.normal(size=(50, 7))
    predictions = RecordingPredictions("x", labels, start, start + 5, logits, 103.0)
    together = detections_of(predictions, np.full(7, 0.6))
    monkeypatch.setattr("birdmix.inference.detections._BLOCK_CELLS", 100)
    assert detections_of(predictions, np.full(7, 0.6)) == together


def test_probabilities_below_the_thresholds_give_no_detections():
    assert detections_of(windows([0.1, 0.2]), np.array([0.5, 0.5])) == ()


def test_a_list_of_species_may_be_birdnets_or_plain(tmp_path: Path):
    file = tmp_path / "species.txt"
    file.write_text(
        "\ufeff# of the valley\n\n Troglodytes sp._WREN, eurasian\nTurdus merula\n", "utf-8"
    )
    with pytest.warns(UserWarning, match="1 of 2 species are not in the bundle: Turdus merula"):
        assert read_species_columns(LABELS, file) == [1]
    assert read_species_columns(LABELS, None) == [0, 1]


def test_a_list_of_species_may_be_utf_16_and_in_either_unicode_form(tmp_path: Path):
    nfc, nfd = "m\u00e9sange", "me\u0301sange"
    file = tmp_path / "species.txt"
    for codes, line in (((nfc, "x"), nfd), ((nfd, "x"), nfc)):
        file.write_text(f"Parus sp._{line.upper()}\n", encoding="utf-16")
        assert read_species_columns(Labels(codes), file) == [0]
        assert Labels(codes).column(line) == 0 and line in Labels(codes)
    with pytest.raises(ValueError, match="label codes are repeated"):
        Labels((nfc, nfd))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n # none\n", "it is empty; write a code or a name in each line, as rob, wren"),
        ("Turdus merula\n", "none of its 1 lines is a species of the bundle; write a code"),
        (None, "cannot be read"),
    ],
)
def test_a_list_without_known_species_is_refused(tmp_path: Path, text: str | None, message: str):
    file = tmp_path / "species.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"--species .*species.txt: {message}"):
        read_species_columns(LABELS, file)


def test_detections_are_written_with_the_datetime_of_their_start(tmp_path: Path):
    start = datetime(2024, 5, 1, 5, 30, tzinfo=UTC)
    recordings = [
        result((2.5, 10, 1, 0.75), recorded_at=start),
        result((86400 + 1 / 3, 86401, 0, 1 - MIN_PROBABILITY), path="b.wav"),
        result(path="silent.wav"),
    ]
    first, second = rows(write(tmp_path, DETECTIONS, recordings))
    assert first == {
        "path": "a/x.wav",
        "datetime": "2024-05-01T05:30:02+00:00",
        "deployment": "a",
        "start_seconds": "2.5",
        "end_seconds": "10",
        "species": "wren",
        "common_name": "Wren, Eurasian",
        "confidence": "0.750000",
        "peak_seconds": "5",
    }
    assert second["datetime"] == "" and second["confidence"] == "0.999999"
    assert (second["start_seconds"], second["end_seconds"]) == ("86400.333333", "86401")


def test_paths_may_contain_any_bytes(tmp_path: Path):
    path = 'a, "b"\nü\udcff.wav'  # with a byte that is not UTF-8
    file = write(tmp_path, DETECTIONS, [result((0, 5, 0, 0.5), path=path)])
    assert [row["path"] for row in rows(file)] == [path]


def test_recordings_are_written_with_and_without_detections(tmp_path: Path):
    start = datetime(2024, 5, 1, 5, 30)
    recordings = [
        result(
            (0, 5, 0, 0.5),
            (5, 10, 1, 0.5),
            recorded_at=start,
            seconds=19.5,
            warning="cut short",
        ),
        result(path="silent.wav"),
    ]
    first, second = rows(write(tmp_path, RECORDINGS, recordings))
    assert first == {
        "path": "a/x.wav",
        "datetime": "2024-05-01T05:30:00",
        "deployment": "a",
        "seconds": "19.5",
        "windows": "4",
        "detections": "2",
        "warning": "cut short",
    }
    assert (second["datetime"], second["detections"], second["warning"]) == ("", "0", "")


def test_failures_are_written_with_their_reasons(tmp_path: Path):
    write_failed(tmp_path / "failed.csv", [("a/x.wav", "the file is empty (0 bytes)")])
    assert rows(tmp_path / "failed.csv") == [
        {"path": "a/x.wav", "error": "the file is empty (0 bytes)"}
    ]


def with_overlaps(recordings: list[RecordingResult]) -> list[RecordingResult]:
    """Return recordings with their overlaps."""
    dated = [each for each in recordings if each.recorded_at is not None]
    timed = [
        TimedRecording(each.path, each.deployment, each.recorded_at, each.predictions.seconds)
        for each in dated
    ]
    overlap_by_path = RepeatedAudio({}, find_overlaps(timed)).overlap_by_path
    return [replace(each, overlap=overlap_by_path.get(each.path)) for each in recordings]


def activity(folder: Path, recordings: list[RecordingResult]) -> list[tuple]:
    file = write(folder, (EFFORT, ACTIVITY), with_overlaps(recordings))
    names = ("species", "date", "hour", "detections", "seconds", "recorded_seconds")
    return [tuple(row[name] for name in names) for row in rows(file)]


def test_activity_splits_seconds_at_hours_and_counts_where_detections_start(tmp_path: Path):
    start = datetime(2024, 5, 1, 22, 59, 50)
    recording = result((5, 15, 0, 0.9), (3605, 3620, 0, 0.9), recorded_at=start, seconds=3630)
    found = activity(tmp_path, [recording])
    assert found == [
        ("rob", "2024-05-01", "22", "1", "5", "10"),
        ("rob", "2024-05-01", "23", "1", "10", "3600"),
        ("rob", "2024-05-02", "0", "0", "10", "20"),
    ]


def test_activity_has_zeros_for_recorded_hours_without_detections(tmp_path: Path):
    recordings = [
        result((0, 5, 1, 0.9), recorded_at=datetime(2024, 5, 2, 6)),
        result(recorded_at=datetime(2024, 5, 1, 5, 30)),
        result(recorded_at=datetime(2024, 5, 1, 5, 40)),
    ]
    found = activity(tmp_path, [*recordings, result((0, 5, 0, 0.9))])
    assert found == [
        ("wren", "2024-05-01", "5", "0", "0", "40"),
        ("wren", "2024-05-02", "6", "1", "5", "20"),
    ]


def test_effort_is_written_by_hour_and_deployment(tmp_path: Path):
    night = datetime(2024, 5, 1, 23, 59, 50)
    recordings = [
        result(path="b/x.wav", recorded_at=night),
        result((0, 5, 0, 0.9), path="a/x.wav", recorded_at=night),
        result(path="a/y.wav", recorded_at=night - timedelta(seconds=10), seconds=5),
        result(path="c/undated.wav"),
    ]
    activity(tmp_path, recordings)
    assert [tuple(row.values()) for row in rows(tmp_path / "effort.csv")] == [
        ("2024-05-01", "23", "a", "15"),
        ("2024-05-01", "23", "b", "10"),
        ("2024-05-02", "0", "a", "10"),
        ("2024-05-02", "0", "b", "10"),
    ]


def test_activity_of_parts_adds_up_to_that_of_the_whole(tmp_path: Path):
    mornings = [datetime(2024, 5, day, 5, minute) for day, minute in ((1, 50), (1, 20), (2, 50))]
    recordings = [
        result((0, 5, 0, 0.9), path="a/1.wav", recorded_at=mornings[0], seconds=900),
        result(
            (595, 605, 0, 0.9), (0, 5, 1, 0.9), path="a/2.wav", recorded_at=mornings[1], seconds=900
        ),
        # A part without any detection.
        result(path="b/3.wav", recorded_at=mornings[2], seconds=900),
    ]
    effort, activity_of_parts = Counter(), Counter()
    for number, recording in enumerate(recordings):
        part = tmp_path / f"part-{number}"
        activity(part, [recording])
        for row in rows(part / "effort.csv"):
            effort[row["date"], row["hour"]] += float(row["recorded_seconds"])
        for row in rows(part / "activity.csv"):
            hour = (row["species"], row["date"], row["hour"])
            activity_of_parts[*hour, "detections"] += int(row["detections"])
            activity_of_parts[*hour, "seconds"] += float(row["seconds"])
    activity(tmp_path, recordings)
    together = rows(tmp_path / "activity.csv")
    assert len(together) == 2 * 4
    for row in together:
        hour = (row["species"], row["date"], row["hour"])
        assert activity_of_parts[*hour, "detections"] == int(row["detections"])
        assert activity_of_parts[*hour, "seconds"] == float(row["seconds"])
        assert effort[hour[1:]] == float(row["recorded_seconds"])


def test_overlapping_time_of_a_deployment_counts_once(tmp_path: Path):
    start = datetime(2024, 5, 1, 5, 59, 30)
    later = start + timedelta(seconds=20)
    recordings = [
        result((0, 10, 0, 0.9), (25, 40, 0, 0.9), path="a/1.wav", recorded_at=start, seconds=40),
        # From 20 s on: the end of the second detection again, another one, and one of its own.
        result((0, 15, 0, 0.9), (30, 40, 0, 0.9), path="a/2.wav", recorded_at=later, seconds=40),
        result((5, 10, 1, 0.9), path="a/3.wav", recorded_at=later, seconds=10),  # within both
        # Another deployment.
        result((0, 10, 0, 0.9), path="b/1.wav", recorded_at=start, seconds=40),
    ]
    found = activity(tmp_path, recordings)
    assert [tuple(row.values()) for row in rows(tmp_path / "effort.csv")] == [
        ("2024-05-01", "5", "a", "30"),
        ("2024-05-01", "5", "b", "30"),
        ("2024-05-01", "6", "a", "30"),
        ("2024-05-01", "6", "b", "10"),
    ]
    # At a: 0 to 10, 20 to 40 and 50 to 60 s, of which the last 30 s are in the next hour.
    assert found == [
        ("rob", "2024-05-01", "5", "3", "30", "60"),
        ("rob", "2024-05-01", "6", "1", "20", "40"),
        ("wren", "2024-05-01", "5", "1", "5", "60"),
        ("wren", "2024-05-01", "6", "0", "0", "40"),
    ]
    backwards = activity(tmp_path / "again", recordings[::-1])
    assert backwards == found


def test_clocks_rounded_to_seconds_make_no_overlap(tmp_path: Path):
    start = datetime(2024, 5, 1, 5)
    recordings = [
        result((0, 60.5, 0, 0.9), path=f"a/{n}.wav", recorded_at=start + n * timedelta(seconds=59),
              seconds=60.5) for n in range(3)
    ]  # fmt: skip
    assert activity(tmp_path, recordings) == [("rob", "2024-05-01", "5", "3", "181.5", "181.5")]


def test_overlaps_need_one_deployment_and_comparable_clocks():
    start, berlin = datetime(2024, 10, 27, 2, 30), TimeZoneConverter("Europe/Berlin").zone
    zoned = [start.replace(tzinfo=berlin, fold=fold) for fold in (0, 1)]  # an hour apart
    timed = [
        TimedRecording("a/1", "a", start, 60),
        TimedRecording("a/2", "a", start + timedelta(seconds=50), 60),
        TimedRecording("a/3", "a", start + timedelta(seconds=109), 60),
        TimedRecording("b/1", "b", start, 60),
        TimedRecording("a/4", "a", zoned[0], 60),
        TimedRecording("a/5", "a", zoned[1], 60),
        TimedRecording("a/6", "a", zoned[1].astimezone(UTC), 30),
    ]
    found = find_overlaps(timed)
    assert [(each.partner, each.seconds) for each in found] == [
        ({"a/1": "a/2", "a/2": "a/1"}, 10), ({"a/6": "a/5", "a/5": "a/6"}, 30)
    ]  # fmt: skip
    spans = {"a/1": (0, 100), "a/2": (10, 5), "a/3": (90, 60), "a/4": (200, 9)}
    chain = [TimedRecording(p, "a", start + timedelta(seconds=s), n) for p, (s, n) in spans.items()]
    assert [(each.partner, each.seconds) for each in find_overlaps(chain)] == [
        ({"a/1": "a/2", "a/2": "a/1", "a/3": "a/1"}, 15)
    ]
    assert seconds_between_datetimes(*zoned) == 3600


def test_copies_do_not_count_as_effort_or_activity(tmp_path: Path):
    start = datetime(2024, 5, 1, 5)
    copy = replace(result((0, 5, 0, 0.9), path="b/x.wav", recorded_at=start), copy_of="a/x.wav")
    original = result((0, 5, 0, 0.9), recorded_at=start)
    assert activity(tmp_path, [original, copy]) == [("rob", "2024-05-01", "5", "1", "5", "20")]


def test_copies_are_found_by_their_bytes(tmp_path: Path):
    big = np.random.default_rng(0).bytes(3 << 20)
    contents = {"a.wav": big, "a (1).wav": big, "b.wav": big[:-1] + b"x", "0 copy.wav": b"xy"}
    for name, content in (contents | {"c.wav": b"xy"}).items():
        (tmp_path / name).write_bytes(content)
    alike = {1: ["a (1).wav", "a.wav", "b.wav", "gone.wav"], 2: ["0 copy.wav", "c.wav"]}
    assert map_copies_to_originals(tmp_path, alike) == {"a (1).wav": "a.wav", "0 copy.wav": "c.wav"}


def test_activity_ignores_the_padding_of_the_last_window(tmp_path: Path):
    recording = result((15, 20, 0, 0.9), recorded_at=datetime(2024, 5, 1, 5), seconds=17.5)
    assert activity(tmp_path, [recording]) == [("rob", "2024-05-01", "5", "1", "2.5", "17.5")]


def test_activity_uses_local_time_when_clocks_change(tmp_path: Path):
    berlin = TimeZoneConverter("Europe/Berlin").zone
    nights = [datetime(2024, 10, 27, 1, tzinfo=berlin), datetime(2024, 3, 31, 1, tzinfo=berlin)]
    recordings = [result((0, 5, 0, 0.9), recorded_at=night, seconds=3 * 3600) for night in nights]
    hours = [(row[1], row[2], row[5]) for row in activity(tmp_path, recordings)]
    assert hours == [
        *[("2024-03-31", hour, "3600") for hour in ("1", "3", "4")],
        *[("2024-10-27", "1", "3600"), ("2024-10-27", "2", "7200")],
    ]


def test_every_window_is_written_with_all_probabilities(tmp_path: Path):
    start = datetime(2024, 5, 1, 23, 59, 55, tzinfo=UTC)
    recordings = [
        result(probability=[[0.25, 0.5], [1e-9, 0.75]], recorded_at=start),
        result(path="b.wav"),
    ]
    found = rows(write(tmp_path, PROBABILITIES["csv"], recordings))
    assert found[1] == {
        "path": "a/x.wav",
        "datetime": "2024-05-02T00:00:00+00:00",
        "deployment": "a",
        "start_seconds": "5",
        "end_seconds": "10",
        "rob": "1e-06",
        "wren": "0.75",
    }
    assert [row["path"] for row in found] == ["a/x.wav"] * 2 + ["b.wav"] * 4


def test_parquet_and_csv_have_equal_content(tmp_path: Path, monkeypatch):
    for name, num_cells in (("_GROUP_CELLS", 6), ("_TEXT_CELLS", 4)):  # three rows, and two
        monkeypatch.setattr(f"birdmix.inference.output.probabilities.{name}", num_cells)
    rng = np.random.default_rng(0)
    recordings = [
        result(path=f"{at % 2}/{at}.wav", probability=rng.uniform(0.01, 0.99, (n, 2)).tolist())
        for at, n in enumerate([1, 7, 2])
    ]
    write(tmp_path, PROBABILITIES.values(), recordings)
    file = pq.ParquetFile(tmp_path / "probabilities.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [3, 3, 3, 1]
    table = file.read()
    assert str(table.schema.field("rob").type) == "float"
    for row, expected in zip(table.to_pylist(), rows(tmp_path / "probabilities.csv"), strict=True):
        assert [str(row[name]) for name in ("path", "datetime", "deployment")] == [
            expected[name] for name in ("path", "datetime", "deployment")
        ]
        for name in ("start_seconds", "end_seconds", "rob", "wren"):
            assert row[name] == pytest.approx(float(expected[name]), rel=1e-5)


@pytest.mark.parametrize("each", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_can_be_used_as_soft_labels(tmp_path: Path, each: OutputFormat):
    names = ("a/x.wav", "y.wav")
    recordings = [result(probability=[[0.25, 0.5], [0.01, 0.6]], path=path) for path in names]
    for path in names:
        write_wave(tmp_path / path)
    file = write(tmp_path, each, recordings)
    found = read_pseudo_labels(PseudoSettings(str(file)), LABELS, follow_links=False)
    assert found.paths == ["a/x.wav", "a/x.wav", "y.wav", "y.wav"]
    assert found.targets() == pytest.approx(np.array([[0.25, 0.5], [0, 0.6]] * 2))


def test_parquet_supports_any_path_and_no_recordings(tmp_path: Path):
    parquet = PROBABILITIES["parquet"]
    one = pq.read_table(write(tmp_path / "one", parquet, [result(path="ü\udcff.wav")]))
    assert one["path"][0].as_py() == "ü\\xff.wav"
    none = pq.read_table(write(tmp_path / "none", parquet, []))
    assert len(none) == 0 and none.column_names[-1] == "wren"


def test_a_label_named_like_a_column_is_renamed():
    labels = Labels(("path", "path_", "rob", "datetime"))
    assert probability_columns(labels)[5:] == ("path__", "path_", "rob", "datetime_")


@pytest.mark.parametrize("has_detections", [True, False])
def test_a_format_that_does_not_need_detections_gets_none(tmp_path: Path, has_detections: bool):
    got = []

    @contextmanager
    def open_list(path: Path, info: SharedMetadata):
        path.touch()
        yield got.append

    one = OutputFormat("list", open_list, has_detections=has_detections)
    recording = result((0, 5, 0, 0.9))
    write(tmp_path, (one, DETECTIONS), [recording])
    assert [each.detections for each in got] == [recording.detections if has_detections else ()]
    assert len(rows(tmp_path / "detections.csv")) == 1


ALL_FORMATS = (*TABLES, *PROBABILITIES.values(), *PROGRAMS.values())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_pass_that_fails_keeps_all_former_tables(tmp_path: Path):
    def failing():
        yield result((0, 5, 0, 0.9))
        raise OSError("no space left on device")

    OutputFiles(tmp_path, tuple(each.name for each in ALL_FORMATS)).register()
    write(tmp_path, ALL_FORMATS, [result((0, 5, 0, 0.9))])
    before = files_of(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(ALL_FORMATS) + 1  # and the list
    with pytest.raises(OSError, match="no space"):
        write(tmp_path, ALL_FORMATS, failing())
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("name", ["probabilities.csv", "raven", "activity.csv"])
def test_a_table_that_fails_at_its_end_keeps_all_former_tables(tmp_path: Path, name: str):
    @contextmanager
    def open_failing(path: Path, info: SharedMetadata):
        yield lambda _: None
        raise OSError("no space left on device")

    OutputFiles(tmp_path, tuple(each.name for each in ALL_FORMATS)).register()
    write(tmp_path, ALL_FORMATS, [result((0, 5, 0, 0.9))])
    before = files_of(tmp_path)
    formats = [
        replace(each, open=open_failing) if each.name == name else each for each in ALL_FORMATS
    ]
    with pytest.raises(OSError, match="no space"):
        write(tmp_path, formats, [result((5, 10, 1, 0.9))])
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("name", ["recordings.csv", "detections.csv", "raven"])
def test_a_users_file_that_appears_during_the_pass_keeps_all_former_tables(
    tmp_path: Path, name: str
):
    def adding():
        yield result((5, 10, 1, 0.9))
        (tmp_path / name / "mine.txt" if name == "raven" else tmp_path / name).write_text("mine")

    OutputFiles(tmp_path, tuple(each.name for each in ALL_FORMATS)).register()
    write(tmp_path, ALL_FORMATS, [result((0, 5, 0, 0.9))])
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match="so it is not replaced; move it away"):
        write(tmp_path, ALL_FORMATS, adding())
    after = files_of(tmp_path)
    changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert [Path(file).read_text() for file in changed] == ["mine"]


def test_all_recordings_are_read_once_for_all_formats(tmp_path: Path):
    recordings = iter([result((0, 5, 0, 0.9)), result((0, 5, 1, 0.9), path="b.wav")])
    assert write_formats(tmp_path / "together", ALL_FORMATS, recordings, INFO) == 2
    for each in ALL_FORMATS:
        again = [result((0, 5, 0, 0.9)), result((0, 5, 1, 0.9), path="b.wav")]
        write(tmp_path / "alone", each, again)
    together, alone = (
        {Path(file).relative_to(folder): content for file, content in files_of(folder).items()}
        for folder in (tmp_path / "together", tmp_path / "alone")
    )
    lists = [file for file in together if file.name == LIST]  # they have times
    assert len(lists) == len(PROGRAMS)
    assert together.keys() == alone.keys()
    assert all(together[file] == alone[file] for file in together.keys() - set(lists))


def write_format(folder: Path, name: str, *recordings: RecordingResult, channel: int = 1) -> Path:
    info = replace(INFO, folder=folder / "sound", channel=channel)
    return write(folder, PROGRAMS[name], recordings, info)


def test_raven_tables_have_the_columns_raven_requires(tmp_path: Path):
    out = write_format(
        tmp_path, "raven", result((0, 7.5, 1, 0.875)), result(path="silent.wav"), channel=2
    )
    assert [file.name for file in out.rglob("*.txt")] == ["x.wav.selections.txt"]
    header, row = (out / "a/x.wav.selections.txt").read_text().splitlines()
    assert dict(zip(header.split("\t"), row.split("\t"), strict=True)) == {
        "Selection": "1",
        "View": "Spectrogram 1",
        "Channel": "2",
        "Begin Time (s)": "0",
        "End Time (s)": "7.5",
        "Low Freq (Hz)": "50",
        "High Freq (Hz)": "15000.5",
        "Begin File": "x.wav",
        "Species": "wren",
        "Common Name": "Wren, Eurasian",
        "Confidence": "0.875000",
    }


def test_raven_tables_are_read_back_as_recordings_with_events(tmp_path: Path):
    names = ("a/x.wav", "b/x.wav", "b/x.flac", 'b/"odd"\tü.wav')  # the same name, in two folders
    recordings = [result((1, 7.5, 1, 0.9), (5, 10, 0, 0.8), path=name) for name in names]
    write_format(tmp_path, "raven", *recordings).rename(tmp_path / "sound")
    for name in names:
        write_wave(tmp_path / "sound" / name, seconds=10)
    found = read("selections", tmp_path / "sound", label_column="Species").recordings
    assert sorted(found.paths) == sorted(names)
    assert found.labels.codes == ("rob", "wren")
    for events in found.table["events"].to_pylist():
        assert [(event["start"], event["end"], event["label"]) for event in events] == [
            (1, 7.5, 1),
            (5, 10, 0),
        ]


def test_audacity_labels_are_read_back_as_annotations(tmp_path: Path):
    out = write_format(tmp_path, "audacity", result((0, 7.5, 1, 0.999999), (5, 10, 0, 0.5)))
    file = out / "a/x.wav.txt"
    assert read_annotations(file) == [
        Annotation(0, 7.5, "Wren, Eurasian", f"{file}, row 1", may_overrun=True),
        Annotation(5, 10, "Robin", f"{file}, row 2", may_overrun=True),
    ]


def test_audacity_tracks_are_read_back_as_recordings_with_events(tmp_path: Path):
    detections = ((1.000001, 7.5, 1, 0.9), (5, 10, 0, 0.8), (8, 10, 1, 1e-6))
    write_format(tmp_path, "audacity", result(*detections)).rename(tmp_path / "sound")
    write_wave(tmp_path / "sound/a/x.wav", seconds=10)
    found = read("selections", tmp_path / "sound").recordings
    assert found.labels.codes == ("Robin", "Wren, Eurasian")
    events = [tuple(event.values()) for event in found.table["events"][0].as_py()]
    assert events == [(1.000001, 7.5, 1), (5, 10, 0), (8, 10, 1)]


def test_birdnet_csv_has_birdnets_columns(tmp_path: Path):
    (row,) = rows(write_format(tmp_path, "birdnet", result((0, 7.5, 1, 0.875))) / "birdnet.csv")
    assert row == {
        "Start (s)": "0",
        "End (s)": "7.5",
        "Scientific name": "wren",
        "Common name": "Wren, Eurasian",
        "Confidence": "0.875000",
        "File": str(tmp_path / "sound/a/x.wav"),
    }


def test_kaleidoscope_csv_has_the_path_of_the_recording(tmp_path: Path):
    recordings = (result((1e-5, 7.5, 1, 0.875)), result((5, 10, 0, 0.5), path="x.wav"))
    out = write_format(tmp_path, "kaleidoscope", *recordings)
    first, second = rows(out / "kaleidoscope.csv")
    assert (first["INDIR"], first["FOLDER"], first["IN FILE"]) == (
        str(tmp_path / "sound"),
        "a",
        "x.wav",
    )
    assert (first["OFFSET"], first["DURATION"]) == ("0.00001", "7.49999")
    assert (second["FOLDER"], second["IN FILE"]) == ("", "x.wav")


def test_kaleidoscope_csv_has_kaleidoscopes_columns(tmp_path: Path):
    start = datetime(2024, 5, 1, 5, 59, 59, tzinfo=UTC)
    recording = result((2.5, 7.5, 1, 0.875), recorded_at=start)
    out = write_format(tmp_path, "kaleidoscope", recording, channel=2)
    (row,) = rows(out / "kaleidoscope.csv")
    assert row == {
        "INDIR": str(tmp_path / "sound"),
        "FOLDER": "a",
        "IN FILE": "x.wav",
        "CHANNEL": "1",  # it counts from 0
        "OFFSET": "2.5",
        "DURATION": "5",
        "DATE": "2024-05-01",
        "TIME": "06:00:01",
        "HOUR": "06",
        "TOP1MATCH": "Wren, Eurasian",
        "TOP1DIST": "0.875000",
        "MANUAL ID": "",
        "scientific_name": "wren",
        "common_name": "Wren, Eurasian",
        "confidence": "0.875000",
    }


FORMULAS = Labels(("=cmd|'/c calc'!A0", "wren"), ("+1-800", "@SUM(A1)"))


def test_no_cell_is_a_formula_and_numbers_stay_numbers(tmp_path: Path):
    recording = result((0, 5, 0, 0.5), (5, 10, 1, 0.5), path="-12dB/=x.wav", warning="=1+1")
    recording = replace(recording, recorded_at=datetime(2024, 5, 1, 5))
    info = SharedMetadata(FORMULAS, Path("-s"), (0, 1), 1)
    csv_formats = (PROBABILITIES["csv"], PROGRAMS["birdnet"], PROGRAMS["kaleidoscope"])
    write(tmp_path, (*TABLES, *csv_formats), [recording], info)
    write_failed(tmp_path / "failed.csv", [("=x.wav", "\tbroken"), ("y.wav", "-1")])
    files = sorted(tmp_path.rglob("*.csv"))
    assert len(files) == 8
    for file in files:
        cells = [cell for row in csv.reader(file.open(newline="")) for cell in row]
        assert [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")] in ([], ["-1"])
    first, second = rows(tmp_path / "detections.csv")
    assert (first["path"], first["deployment"]) == ("./-12dB/=x.wav", "./-12dB")
    assert (first["species"], first["common_name"]) == ("'=cmd|'/c calc'!A0", "'+1-800")
    assert (second["species"], second["common_name"]) == ("wren", "'@SUM(A1)")
    assert [row["error"] for row in rows(tmp_path / "failed.csv")] == ["'\tbroken", "-1"]


def test_escaped_cells_are_read_back_unchanged(tmp_path: Path):
    recording = result((0, 5, 0, 0.5), (5, 10, 1, 0.5), path="-12dB/=x.wav")
    info = SharedMetadata(FORMULAS, tmp_path, (0, 1), 1)
    found = read_detection_table(write(tmp_path, DETECTIONS, [recording], info)).rows
    assert {(each.path, each.deployment) for each in found} == {("-12dB/=x.wav", "-12dB")}
    assert tuple(each.species for each in found) == FORMULAS.codes
    assert tuple(each.common_name for each in found) == FORMULAS.names
    write_wave(tmp_path / "-12dB/=x.wav", seconds=20)
    settings = PseudoSettings(str(write(tmp_path, PROBABILITIES["csv"], [recording], info)))
    assert read_pseudo_labels(settings, FORMULAS, follow_links=False).paths == 4 * [recording.path]
    write(tmp_path, PROGRAMS["raven"], [recording], info).rename(tmp_path / "sound")
    write_wave(tmp_path / "sound/-12dB/=x.wav", seconds=20)
    read_back = read("selections", tmp_path / "sound", label_column="Species").recordings
    assert read_back.labels.codes == FORMULAS.codes


@pytest.mark.parametrize("text", ["=x", "'=x", "''-x", "-5", "'-5", "x=", "'", "", "-", "\rx"])
def test_harmless_text_is_restored(text: str):
    assert (
        unescape_formula(escape_formula(text)) == text
        and unescape_formula_in_path(escape_formula_in_path(text)) == text
    )
    assert escape_formula(text)[:1] not in tuple("=+-@\r") or text == "-5"


@pytest.mark.parametrize("name", PROGRAMS)
def test_former_detections_are_removed_from_format_folders(tmp_path: Path, name: str):
    write_format(tmp_path, name, result((0, 5, 0, 0.9)))
    out = write_format(tmp_path, name, result())
    assert "rob" not in "".join(f.read_text().lower() for f in out.rglob("*") if f.is_file())


@pytest.mark.parametrize("name", ["raven", "audacity"])
def test_names_too_long_for_a_suffix_are_shortened_and_differ(tmp_path: Path, name: str):
    paths = [f"a/{night}{'ä' * 120}.flac" for night in range(3)]  # 246 bytes
    out = write_format(tmp_path, name, *(result((0, 5, 0, 0.9), path=path) for path in paths))
    files = [file.name for file in (out / "a").iterdir()]
    assert len(files) == 3
    for file in files:
        assert len(file.encode()) <= 255
        assert "äää.flac." in file and file.endswith(".txt")


@pytest.mark.parametrize("name", PROGRAMS)
def test_formats_support_any_path(tmp_path: Path, name: str):
    out = write_format(tmp_path, name, result((0, 5, 0, 0.9), path='a/"b,\n\u2028\udcff.wav'))
    (file,) = (file for file in out.rglob("*") if file.is_file() and file.name != LIST)
    if name in ("raven", "audacity"):
        assert len(read_annotations(file, "Species")) == 1
    else:
        column = "File" if name == "birdnet" else "IN FILE"
        assert rows(file)[0][column].endswith('"b,\n\u2028\udcff.wav')


def test_a_table_of_runs_has_no_formulas_and_its_numbers_stay_numbers():
    table = pd.DataFrame({"run": ["-a/b"], "error": ["=1+1"], "-loss": [-0.5], "seed": ["-5"]})
    made = escape_table_formulas(table)
    assert made.iloc[0].tolist() == ["./-a/b", "'=1+1", -0.5, "-5"]
    assert made.columns.tolist() == ["run", "error", "'-loss", "seed"]


def test_verdicts_saved_by_the_page_are_escaped_like_tables():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here to run the page's script")
    script = (resources.files("birdmix.report") / "review_page.js").read_text(encoding="utf-8")
    functions = script[script.index("function escapeFormula(") : script.index("function save(")]
    texts = ["=x", "'=x", "'x", "-5", "-5e-3", "+5+1", "a=b", "", "\tx", "\uff1dx", "-"]
    command = f"{functions}\nconsole.log(JSON.stringify({json.dumps(texts)}.map(FUNCTION)))"
    for name, expected in (
        ("escapeFormula", escape_formula),
        ("escapeFormulaInPath", escape_formula_in_path),
    ):
        run = [node, "-e", command.replace("FUNCTION", name)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == list(map(expected, texts))
