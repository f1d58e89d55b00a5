"""Detections, and what listening writes of them."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from birdmix.inference.detections import Detection, HeardRecording, detect
from birdmix.inference.tables import write_detections
from birdmix.labels import Labels
from birdmix.windows import FLOOR, WindowPredictions

LABELS = Labels(("rob", "wren"), ("Robin", "Wren, Eurasian"))


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability)).astype(np.float32)


def windows(
    probability: list, step: float = 5, window: float = 5, path: str = "a/x.wav", warning: str = ""
) -> WindowPredictions:
    """Windows of two classes, in which the second is never heard if only one is given."""
    score = logit(np.array(probability, np.float64))
    if score.ndim == 1:
        score = np.stack([score, np.full_like(score, -9)], axis=1)
    start = np.arange(len(score)) * step
    return WindowPredictions(path, start, start + window, score, warning)


def stretches(predictions: WindowPredictions, *thresholds: float) -> list[tuple]:
    found = detect(predictions, np.array(thresholds))
    return [(each.start_seconds, each.end_seconds, each.column) for each in found]


def heard(
    *detections: Detection | tuple,
    path: str = "a/x.wav",
    began: datetime | None = None,
    seconds: float = 20,
    probability: list | None = None,
    warning: str = "",
) -> HeardRecording:
    predictions = windows(probability or [0.1] * 4, path=path, warning=warning)
    found = tuple(Detection(*each) for each in detections)
    deployment = path.rpartition("/")[0] or "top"
    return HeardRecording(predictions, seconds, deployment, began, found)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def test_neighbouring_windows_are_one_detection_and_others_are_not():
    side_by_side = windows([0.9, 0.6, 0.1, 0.7])
    assert stretches(side_by_side, 0.5, 0.5) == [(0, 10, 0), (15, 20, 0)]
    overlapping = windows([0.9, 0.1, 0.7], step=2)  # the third starts in the first
    assert stretches(overlapping, 0.5, 0.5) == [(0, 9, 0)]
    gaps = windows([0.9, 0.9], step=6)
    assert stretches(gaps, 0.5, 0.5) == [(0, 5, 0), (6, 11, 0)]


def test_windows_that_rounding_parts_are_neighbours():
    assert stretches(windows([0.9] * 9, step=0.1, window=0.1), 0.5, 0.5) == [(0, 0.9, 0)]


def test_a_detection_is_as_sure_as_its_surest_window():
    found = detect(windows([0.6, 0.8, 0.7, 0.1, 0.55]), np.array([0.5, 0.5]))
    assert [each.confidence for each in found] == pytest.approx([0.8, 0.55])


def test_each_class_has_its_threshold_and_nan_is_never():
    predictions = windows([[0.3, 0.6], [0.3, 0.3]])
    assert stretches(predictions, 0.2, 0.5) == [(0, 10, 0), (0, 5, 1)]
    assert stretches(predictions, np.nan, 0.5) == [(0, 5, 1)]
    assert stretches(predictions, 1, np.nan) == []
    assert stretches(predictions, 0, np.nan) == [(0, 10, 0)]


def test_a_probability_at_its_threshold_is_called():
    predictions = windows(np.linspace(0.01, 0.99, 99).tolist())
    for window, threshold in enumerate(predictions.probability[:, 0]):
        assert stretches(predictions, threshold, np.nan) == [(5 * window, 495, 0)]


def test_detections_come_by_their_start_then_column():
    found = stretches(windows([[0.1, 0.9], [0.9, 0.1], [0.1, 0.1], [0.9, 0.9]]), 0.5, 0.5)
    assert found == [(0, 5, 1), (5, 10, 0), (15, 20, 0), (15, 20, 1)]


def test_detections_do_not_depend_on_how_many_classes_are_looked_at_together(monkeypatch):
    rng = np.random.default_rng(0)
    start = np.arange(50) * 2.0
    predictions = WindowPredictions("x", start, start + 5, rng.normal(size=(50, 7)))
    together = detect(predictions, np.full(7, 0.6))
    monkeypatch.setattr("birdmix.inference.detections._CELLS", 100)
    assert detect(predictions, np.full(7, 0.6)) == together


def test_nothing_called_is_no_detections():
    assert detect(windows([0.1, 0.2]), np.array([0.5, 0.5])) == ()


def test_detections_are_written_with_the_moment_they_start(tmp_path: Path):
    began = datetime(2024, 5, 1, 5, 30, tzinfo=UTC)
    recordings = [
        heard((2.5, 10, 1, 0.75), began=began),
        heard((86400 + 1 / 3, 86401, 0, 1 - FLOOR), path="b.wav"),
        heard(path="silent.wav"),
    ]
    assert write_detections(tmp_path / "detections.csv", recordings, LABELS) == 2
    first, second = rows(tmp_path / "detections.csv")
    assert first == {
        "path": "a/x.wav",
        "datetime": "2024-05-01T05:30:02+00:00",
        "deployment": "a",
        "start_seconds": "2.5",
        "end_seconds": "10",
        "species": "wren",
        "common_name": "Wren, Eurasian",
        "confidence": "0.750000",
    }
    assert second["datetime"] == "" and second["confidence"] == "0.999999"
    assert (second["start_seconds"], second["end_seconds"]) == ("86400.333333", "86401")


def test_names_may_hold_anything(tmp_path: Path):
    path = 'a, "b"\nü\udcff.wav'  # with a byte that is no UTF-8
    write_detections(tmp_path / "detections.csv", [heard((0, 5, 0, 0.5), path=path)], LABELS)
    assert [row["path"] for row in rows(tmp_path / "detections.csv")] == [path]
