"""Audio stores, samplers, extraction of segments, targets of spans, batches and loaders."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from birdmix.labels import Labels
from birdmix.loading import pcm_cache
from birdmix.loading.audio_store import AudioStore, FileStore, MemoryStore, PcmStore
from birdmix.loading.loader import end_workers, make_loader
from birdmix.loading.row_weights import compute_draws_per_epoch
from birdmix.loading.sampler import SegmentBatchSampler
from birdmix.loading.segment_dataset import SegmentDataset
from birdmix.loading.segment_extraction import (
    draw_event_start,
    draw_loud_start,
    fill_up,
    sum_consecutive_segments,
)
from birdmix.loading.span_targets import SpanTargets
from birdmix.loading.window_dataset import WindowDataset, split_event_rows_into_windows
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table_schema import Event, Span
from tests.recordings import RATE, open_recordings, read_csv, read_folder, table, write_wave


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav"):
        write_wave(tmp_path / path)
    return tmp_path


# ---------------------------------------------------------------- stores


@pytest.mark.parametrize("cache", ["memory", "pcm", "none"])
def test_all_stores_return_the_same_samples(folder: Path, cache: str):
    recordings, store = open_recordings(
        read_folder(folder), 6000, cache=cache, cache_dir=str(folder / "cache")
    )
    kinds = {"memory": MemoryStore, "pcm": PcmStore, "none": FileStore}
    assert isinstance(store, kinds[cache])
    assert store.file_numbers_of_rows(recordings).tolist() == [0, 1, 2, 3]
    assert store.lengths.tolist() == [6000] * 4
    _, files = open_recordings(read_folder(folder), 6000, cache="none")
    np.testing.assert_allclose(store.read(1, 1000, 800), files.read(1, 1000, 800), atol=1e-4)
    assert len(store.read(0, 5900, 800)) == 100


def test_recordings_that_do_not_fit_into_memory_are_read_from_disk(folder: Path):
    assert isinstance(open_recordings(read_folder(folder), memory_gib=1e-6)[1], FileStore)


@pytest.mark.parametrize("memory_gib", [0, 1])
def test_an_unreadable_recording_is_reported_once_and_removed_with_its_rows(
    folder: Path, memory_gib: float
):
    (folder / "robin/0-bad.wav").write_bytes(b"RIFF")
    with pytest.warns(UserWarning, match=r"1 of 5 recordings are unreadable.*\n.*0-bad.wav"):
        kept, _ = open_recordings(read_folder(folder), memory_gib=memory_gib, max_bad_fraction=0.5)
    assert len(kept) == 4
    assert kept.targets().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_too_many_unreadable_recordings_are_an_error_that_lists_them(folder: Path):
    (folder / "robin/0-bad.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data.max_bad_fraction=0.05.*\n.*0-bad.wav"):
        open_recordings(read_folder(folder))


def test_the_length_of_a_truncated_recording_is_what_can_be_decoded(folder: Path):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    file = folder / "robin" / "cut.flac"
    soundfile.write(file, noise, RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    recordings, files = open_recordings(read_folder(folder), memory_gib=0)
    at = recordings.paths.index("robin/cut.flac")
    assert 4 * RATE < files.lengths[at] < 6 * RATE
    assert len(files.read(at, int(files.lengths[at]) - RATE, RATE // 2)) == RATE // 2


@pytest.mark.parametrize("codec", ["GSM610", "G721_32"])
def test_codecs_without_seeking_are_read_from_disk_as_from_memory(folder: Path, codec: str):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    soundfile.write(folder / "robin" / "0.wav", noise, RATE, subtype=codec)
    (_, memory), (recordings, files) = (
        open_recordings(read_folder(folder), 6000, cache=cache) for cache in ("memory", "none")
    )
    at = recordings.paths.index("robin/0.wav")
    assert files.lengths[at] == memory.lengths[at] >= 5 * 6000
    pieces = [store.read(at, 20_000, 3000) for store in (memory, files)]
    np.testing.assert_allclose(*pieces, atol=1e-4)


def test_concatenated_and_unfinished_files_are_read_from_disk_as_from_memory(folder: Path):
    a, b = ((folder / "robin" / name).read_bytes() for name in ("1-a.wav", "2-b.wav"))
    (folder / "robin" / "1-a.wav").write_bytes(a + b)
    (folder / "robin" / "2-b.wav").write_bytes(b[:40] + bytes(4) + b[44:])
    for cache in ("memory", "none"):
        _, store = open_recordings(read_folder(folder), RATE, cache=cache)
        assert store.lengths.tolist() == [2 * RATE, RATE, RATE, RATE]
        np.testing.assert_allclose(store.read(0, RATE, 999), store.read(1, 0, 999), atol=1e-4)


def pcm_round_trip(tmp_path: Path, wave: np.ndarray, subtype: str) -> np.ndarray:
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype=subtype)
    return pcm_cache.decode_to_pcm(tmp_path / "a.wav", RATE).read(0, len(wave))


def test_16_bit_storage_is_precise_for_quiet_and_loud_recordings(
    tmp_path: Path,
):
    integers = np.random.default_rng(0).integers(-(2**15), 2**15, 999).astype(np.int16)
    for wave in (integers, integers // 64):
        np.testing.assert_array_equal(pcm_round_trip(tmp_path, wave, "PCM_16"), wave / 2**15)
    noise = np.random.default_rng(0).normal(size=999)
    for peak in (1e-5, 20.0):
        wave = noise * peak / np.abs(noise).max()
        kept = pcm_round_trip(tmp_path, wave, "FLOAT")
        assert np.abs(kept - wave).max() <= peak / 2**15
    assert not pcm_round_trip(tmp_path, np.zeros(9), "FLOAT").any()


def cache_files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.pcm")}


def test_a_cache_is_made_once_and_completed_after_an_interruption(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings = read_folder(folder)
    open_recordings(recordings.take(np.arange(2)), **settings)  # as if killed half-way
    existing = cache_files(folder / "cache")
    assert len(existing) == 2
    decoded = []
    decode_to_pcm = pcm_cache.decode_to_pcm
    monkeypatch.setattr(
        pcm_cache, "decode_to_pcm", lambda *a: decoded.append(a) or decode_to_pcm(*a)
    )
    open_recordings(recordings, **settings)
    assert len(decoded) == 2 and existing.items() <= cache_files(folder / "cache").items()
    open_recordings(recordings, **settings)
    assert len(decoded) == 2


def test_cache_files_of_changed_recordings_are_replaced(folder: Path):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings, _ = open_recordings(read_folder(folder), **settings)
    file = folder / recordings.paths[0]
    write_wave(file, value=0.25)
    os.utime(file, ns=(0, 12345))
    _, after = open_recordings(recordings, **settings)
    assert after.read(0, 0, 5) == pytest.approx(np.full(5, 0.25), abs=1e-4)
    assert len(cache_files(folder / "cache")) == 4  # the old one is replaced
    _, other_rate = open_recordings(recordings, 4000, **settings)
    assert other_rate.lengths.tolist() == [4000] * 4


def test_a_corrupt_cache_file_is_replaced(folder: Path):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings, store = open_recordings(read_folder(folder), **settings)
    expected = store.read(0, 0, RATE)
    for num_bytes, file in zip((999, 50, 63, 0), cache_files(folder / "cache"), strict=True):
        file.write_bytes(file.read_bytes()[:num_bytes])
    _, reopened = open_recordings(recordings, **settings)
    np.testing.assert_array_equal(reopened.read(0, 0, RATE), expected)


# ---------------------------------------------------------------- samplers


def test_an_epoch_draws_every_row_once_and_a_resumed_one_the_rest():
    batches = list(SegmentBatchSampler(np.ones(10), 4, seed=1, num_epochs=2, drop_last=False))
    for epoch in range(2):
        rows = [row for batch in batches for e, _, row in batch if e == epoch]
        assert sorted(rows) == list(range(10))
    resumed = SegmentBatchSampler(
        np.ones(10), 4, seed=1, num_epochs=2, drop_last=False, start=(1, 1)
    )
    assert list(resumed) == batches[4:]
    assert len(resumed) == 2


def test_orders_differ_between_epochs_and_seeds():
    def orders(seed: int) -> list:
        batches = SegmentBatchSampler(np.ones(50), 5, seed=seed, num_epochs=2)
        return [batches.rows_of_epoch(epoch).tolist() for epoch in range(2)]

    assert orders(0)[0] != orders(0)[1] != orders(1)[1]


def test_rows_are_drawn_segments_per_recording_times():
    batches = SegmentBatchSampler(np.full(5, 3.0), 5, seed=0, num_epochs=1)
    assert np.bincount(batches.rows_of_epoch(0)).tolist() == [3] * 5


def test_draws_of_a_row_differ_from_their_mean_by_less_than_one():
    mean_draws = np.array([0.3, 1.7, 4.0, 0.0, 2.0])
    batches = SegmentBatchSampler(mean_draws, 4, seed=3, num_epochs=500)
    counts = np.stack([np.bincount(batches.rows_of_epoch(e), minlength=5) for e in range(500)])
    assert (np.abs(counts - mean_draws) < 1).all()
    assert counts.mean(axis=0) == pytest.approx(mean_draws, abs=0.07)


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(ValueError, match="data.batch_size=8: an epoch has only 5 segments"):
        SegmentBatchSampler(np.ones(5), 8, seed=0, num_epochs=1)


CODES = [("a",)] * 6 + [("b",)] * 2 + [("a", "c"), ()]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1] * 10),
        ({"segments_per_recording": 3}, [3] * 10),
        # Frequencies are 7 (a), 2 (b), 1 (c) and 1 (no label); the rarest label of a row counts.
        ({"sampler": "inverse"}, [1 / 7] * 6 + [1 / 2] * 2 + [1, 1]),
        ({"sampler": "sqrt"}, [7**-0.5] * 6 + [2**-0.5] * 2 + [1, 1]),
        ({"sampler": "capped", "cap": 2}, [2 / 7] * 6 + [1] * 4),
    ],
)
def test_samplers_depend_on_the_rarest_label_of_a_recording(settings: dict, expected: list[float]):
    rates = compute_draws_per_epoch(table([""] * 10, CODES), DataSettings(**settings))
    if settings.get("sampler") in ("inverse", "sqrt"):
        expected = list(10 * np.array(expected) / sum(expected))
    assert rates == pytest.approx(np.array(expected))


def test_labels_with_small_targets_do_not_count_as_rarest():
    labels = Labels(("a", "b"))
    recordings = Recordings.build(
        Path(), labels, path=list("wxyz"),
        codes=[("a",), ("a",), ("a", "b"), ("b",)], values=[(1,), (1,), (0.4, 0.05), (1,)],
    )  # fmt: skip
    rates = compute_draws_per_epoch(recordings, DataSettings(sampler="inverse"))
    assert rates == pytest.approx(4 * np.array([1, 1, 1, 3]) / 6)


# ---------------------------------------------------------------- extraction of segments


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("method", ["loop", "pad", "gaps"])
def test_a_short_recording_is_filled_up_with_itself_or_exact_silence(method: str):
    wave = np.linspace(0.1, 1, 100).astype(np.float32)
    results = [fill_up(wave, 450, method, rng(seed)) for seed in range(20)]
    assert all(len(each) == 450 and set(each[each != 0]) == set(wave) for each in results)
    silence = np.mean([(each == 0).mean() for each in results])
    assert silence == pytest.approx({"loop": 0, "pad": 350 / 450, "gaps": 0.15}[method], abs=0.1)
    starts = {int(np.flatnonzero(each)[0]) for each in results}
    assert (len(starts) > 10) is (method == "pad")
    np.testing.assert_array_equal(fill_up(wave, 60, method, rng()), wave[:60])


def test_louder_positions_are_drawn_more_often_and_rumble_does_not_count():
    t = np.arange(10 * RATE) / RATE
    rumble = np.where(t < 5, 0.9 * np.sin(2 * np.pi * 20 * t), 0)
    song = np.where(t > 7, 0.1 * np.sin(2 * np.pi * 3000 * t), 0)
    wave = rumble + song

    def read(start: int, num_samples: int) -> np.ndarray:
        return wave[start : start + num_samples]

    starts = [draw_loud_start(read, 0, len(wave), RATE, rng(seed)) for seed in range(60)]
    assert np.mean([start > 6 * RATE for start in starts]) > 0.7
    assert draw_loud_start(lambda s, n: np.zeros(n), 0, 100, 10, rng()) >= 0


@pytest.mark.parametrize("event", [(30, 50), (0, 5), (95, 100), (10, 90)])
def test_a_segment_around_an_event_contains_it_or_lies_within_it(event: tuple[int, int]):
    for seed in range(50):
        start = draw_event_start(event, 0, 100, 30, rng(seed))
        assert 0 <= start <= 70
        inside = start <= event[0] and event[1] <= start + 30
        assert inside or (event[0] <= start and start + 30 <= event[1])


def test_consecutive_segments_are_summed():
    wave = np.arange(25, dtype=np.float32)
    total = sum_consecutive_segments(lambda start, num: wave[start : start + num], 2, 25, 10)
    np.testing.assert_array_equal(total, [sum(wave[2 + i : 25 : 10]) for i in range(10)])


# ---------------------------------------------------------------- targets


def events_table(annotated: list | None = None) -> Recordings:
    events = [Event(2, 4, "a"), Event(3.9, 3.95, "b"), Event(8, 9, None)]
    return Recordings.build(
        Path(), Labels(("a", "b", "c")), path=["x"], events=[events], annotated=annotated
    )


@pytest.mark.parametrize(
    ("span", "target", "known"),
    [
        ((0, 1.9), [0, 0, 0], [1, 1, 1]),  # annotated without an event: known to be absent
        ((0, 5), [1, 1, 0], [1, 1, 1]),
        ((0, 2.1), [0, 0, 0], [0, 1, 1]),  # too small an overlap with a
        ((0, 2.3), [1, 0, 0], [1, 1, 1]),
        ((3.8, 5), [1, 1, 0], [1, 1, 1]),  # all of a short event
        ((7, 10), [0, 0, 0], [0, 0, 0]),  # an event without a label
        ((7, 8.1), [0, 0, 0], [0, 0, 0]),  # even with a small overlap
        ((4, 5), [0, 0, 0], [1, 1, 1]),  # adjacent, no overlap
    ],
)
def test_a_span_has_the_labels_of_events_that_overlap_it_enough(
    span: tuple, target: list, known: list
):
    targets, is_known = SpanTargets(events_table(), 0.2)(np.array([0]), np.array([span]))
    assert targets[0].tolist() == target
    assert is_known[0].tolist() == [bool(each) for each in known]


def test_without_a_minimum_overlap_an_adjacent_event_does_not_count():
    events = [Event(5, 6, "a"), Event(8, 8, "b")]
    recordings = Recordings.build(Path(), Labels(("a", "b")), path=["x"], events=[events])
    spans = np.array([[0, 5], [4, 6], [6, 8], [8, 9.0]])
    target, known = SpanTargets(recordings, 0.0)(np.zeros(4, int), spans)
    assert target.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]] and known.all()


def test_outside_of_annotated_spans_only_labels_of_events_are_known():
    targets = SpanTargets(events_table([[Span(0, 3), Span(2.5, 5)]]), 0.2)
    rows, spans = np.array([0, 0, 0]), np.array([[0, 5.0], [1, 5.5], [5.5, 7]])
    target, known = targets(rows, spans)
    assert target.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert known.tolist() == [[True] * 3, [True, True, False], [False] * 3]


def test_a_recording_without_events_has_its_labels_in_every_span():
    recordings = Recordings.build(
        Path(), Labels(("a", "b", "c")), path=["x"],
        codes=[("a", "b")], values=[(1.0, 0.9)], unknown=[("c",)],
    )  # fmt: skip
    target, known = SpanTargets(recordings)(np.array([0]), np.array([[3, 4]]))
    assert target[0].tolist() == pytest.approx([1, 0.9, 0])
    assert known[0].tolist() == [True, True, False]


# ---------------------------------------------------------------- batches


def segments(folder: Path, num_samples: int, **settings: Any) -> SegmentDataset:
    recordings, store = open_recordings(read_folder(folder))
    return SegmentDataset(recordings, store, num_samples, RATE, 0, DataSettings(**settings))


def test_a_segment_depends_only_on_its_key(folder: Path):
    data = segments(folder, 800)
    alone = data.__getitems__([(0, 5, 2)])
    among = data.__getitems__([(0, 4, 0), (0, 5, 2)])
    assert torch.equal(alone.examples.x[0], among.examples.x[1])
    assert not torch.equal(alone.examples.x[0], data.__getitems__([(0, 6, 2)]).examples.x[0])
    assert not torch.equal(alone.examples.x[0], data.__getitems__([(1, 5, 2)]).examples.x[0])


def test_short_recordings_are_looped_in_training_and_padded_in_validation(folder: Path):
    (looped,) = segments(folder, 2 * RATE).__getitems__([(0, 0, 0)]).examples.x
    assert torch.equal(looped[:RATE], looped[RATE:])
    recordings, store = open_recordings(read_folder(folder))
    windows = WindowDataset(recordings, store, 2 * RATE, RATE, max_windows=3)
    (padded,) = windows.__getitems__([windows.keys[0]]).examples.x
    assert padded[RATE:].abs().max() == 0 and padded[:RATE].abs().max() > 0


def ramp(folder: Path, text: str, **settings: Any) -> tuple[Recordings, AudioStore]:
    """Open a table of one recording of ten seconds whose value is proportional to the time."""
    write_wave(folder / "a.wav", seconds=10)
    return open_recordings(read_csv(folder, text), **settings)


def seconds_at(waveform: torch.Tensor) -> list[float]:
    return (waveform[[0, -1]] * 20).tolist()


def test_segments_and_windows_of_a_span_lie_within_it(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels,start,end\na.wav,x,4,6\n")
    windows = WindowDataset(recordings, store, 2 * RATE, RATE, max_windows=9)
    (window,) = windows.__getitems__(windows.keys).examples.x
    assert seconds_at(window) == pytest.approx([4, 6], abs=0.01)
    segment = (
        SegmentDataset(recordings, store, RATE, RATE, seed=0)
        .__getitems__([(0, 0, 0)])
        .examples.x[0]
    )
    assert seconds_at(segment)[0] >= 4 and seconds_at(segment)[1] <= 6


def test_a_window_of_a_short_span_is_silent_around_it_unless_context_is_used(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels,start,end\na.wav,x,4,5\na.wav,y,5,10\n")
    windows = WindowDataset(recordings, store, 2 * RATE, RATE, max_windows=9)
    assert [row for row, _ in windows.keys] == [0, 1, 1, 1]
    short = windows.__getitems__(windows.keys[:1]).examples.x[0]
    assert not short[: RATE // 2].any() and not short[-RATE // 2 :].any()
    assert seconds_at(short[RATE // 2 : -RATE // 2]) == pytest.approx([4, 5], abs=0.01)
    with_context = WindowDataset(
        recordings, store, 2 * RATE, RATE, max_windows=9, with_context=True
    )
    (window,) = with_context.__getitems__(with_context.keys[:1]).examples.x
    assert seconds_at(window) == pytest.approx([3.5, 5.5], abs=0.01)


@pytest.mark.parametrize("start", [3, 9])
def test_segments_may_be_taken_from_the_start(tmp_path: Path, start: int):
    recordings, store = ramp(tmp_path, f"path,labels,start,end\na.wav,x,{start},10\n")
    settings = DataSettings(segment="start")
    data = SegmentDataset(recordings, store, RATE, RATE, 0, settings)
    assert seconds_at(data.__getitems__([(0, 7, 0)]).examples.x[0]) == pytest.approx(
        [start, start + 1], abs=0.01
    )


def open_with_events(folder: Path, **columns: Any) -> tuple[Recordings, AudioStore]:
    write_wave(folder / "a.wav", seconds=10)
    events = [[Event(3, 3.5, "x"), Event(7, 8, "y")]]
    recordings = Recordings.build(
        folder, Labels(("x", "y")), path=["a.wav"], events=events, **columns
    )
    return open_recordings(recordings)


def test_segments_around_events_have_the_labels_of_the_events_in_them(tmp_path: Path):
    recordings, store = open_with_events(tmp_path)
    data = SegmentDataset(recordings, store, RATE, RATE, 0, DataSettings(segment="event"))
    batch = data.__getitems__([(0, position, 0) for position in range(40)])
    for waveform, target in zip(batch.examples.x, batch.examples.target.tolist(), strict=True):
        begin, _ = seconds_at(waveform)
        assert target == ([1, 0] if begin < 5 else [0, 1])
    assert batch.examples.known.all()
    assert {tuple(target) for target in batch.examples.target.tolist()} == {(1, 0), (0, 1)}


def test_recordings_with_events_are_validated_in_windows(tmp_path: Path):
    recordings, store = open_with_events(tmp_path)
    window_rows = split_event_rows_into_windows(recordings, store, 4 * RATE, RATE, 0.2)
    assert window_rows.numeric_column("start").tolist() == [0, 4, 6]  # the last is moved back
    assert window_rows.targets().tolist() == [[1, 0], [0, 1], [0, 1]]
    windows = WindowDataset(window_rows, store, 4 * RATE, RATE, max_windows=1)
    assert windows.keys == [(0, 0), (1, 4 * RATE), (2, 6 * RATE)]
    recordings, store = open_with_events(tmp_path, annotated=[[Span(0, 4)]])
    known_rows = split_event_rows_into_windows(recordings, store, 2 * RATE, RATE, 0.2)
    assert known_rows.numeric_column("start").tolist() == [0, 2, 6]


def test_only_segments_of_recordings_with_several_labels_are_summed(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=4, value=0.1)
    text = "path,labels,start,end\na.wav,x,,\n"
    several_labels = text.replace("x", "x;y")
    for content, level in ((text, 0.1), (several_labels, 0.4)):
        recordings, store = open_recordings(read_csv(tmp_path, content))
        settings = DataSettings(segment_seconds=1, self_sum_seconds=60)
        data = SegmentDataset(recordings, store, RATE, RATE, 0, settings)
        batch = data.__getitems__([(0, 0, 0)])
        assert batch.examples.x[0].numpy() == pytest.approx(np.full(RATE, level), abs=1e-3)


def test_augmented_segments_depend_only_on_their_key(folder: Path):
    gain = {"_target_": "audiomentations.Gain", "min_gain_db": -20, "max_gain_db": 0, "p": 1.0}
    plain, data = segments(folder, 800), segments(folder, 800, augment=[gain])
    alone = data.__getitems__([(0, 5, 2)]).examples.x[0]
    among = data.__getitems__([(0, 4, 0), (0, 5, 2)]).examples.x
    assert torch.equal(alone, among[1])
    ratio = alone / plain.__getitems__([(0, 5, 2)]).examples.x[0]
    assert 0.1 <= ratio.mean() < 1 and ratio.std() < 1e-4
    assert (among[0] / plain.__getitems__([(0, 4, 0)]).examples.x[0]).nanmean() != ratio.mean()


def test_long_recordings_have_evenly_spaced_windows(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels\na.wav,x\n")
    windows = WindowDataset(recordings, store, RATE, RATE, max_windows=4)
    assert [start // RATE for _, start in windows.keys] == [0, 3, 6, 9]


def test_a_few_samples_beyond_the_last_window_have_no_window_of_their_own(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=2.001)  # encoders pad
    recordings, store = open_recordings(read_csv(tmp_path, "path,labels\na.wav,x\n"))
    assert WindowDataset(recordings, store, RATE, RATE, max_windows=9).keys == [(0, 0), (0, RATE)]


def test_a_span_beyond_the_decodable_end_is_refused(folder: Path):
    recordings, store = open_recordings(read_folder(folder).take(np.array([0])))
    spans = recordings.with_spans_and_labels(
        np.array([7.0]), np.array([9.0]), np.ones((1, 2)), np.ones((1, 2), bool)
    )
    with pytest.raises(ValueError, match=r"robin/1-a.wav: the span from 7 to 9 s is beyond"):
        SegmentDataset(spans, store, RATE, RATE, seed=0)


# ---------------------------------------------------------------- loaders


def test_any_number_of_workers_loads_the_same_batches(folder: Path):
    gain = {"_target_": "audiomentations.Gain", "p": 0.5}
    data = segments(folder, 800, augment=[gain], short="gaps", segment="energy")
    loaded = []
    for num_workers in (0, 2):
        batches = SegmentBatchSampler(np.ones(4), 2, seed=3, num_epochs=3)
        loaded.append([batch.examples.x for batch in make_loader(data, batches, num_workers)])
    assert len(loaded[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(*loaded, strict=True))


class InOrder(SegmentBatchSampler):
    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        return np.arange(len(self.draws_per_epoch))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_recording_that_becomes_unreadable_is_an_error_of_one_line(
    tmp_path: Path, num_workers: int
):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8000), 8000)
    labels = Labels(("x",))
    recordings = Recordings.build(tmp_path, labels, path=["a.wav", "b.wav"], codes=[("x",), ("x",)])
    recordings, store = open_recordings(recordings, memory_gib=0)
    data = SegmentDataset(recordings, store, 4000, 8000, seed=0)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    batches = make_loader(data, InOrder(np.ones(2), 1, seed=0, num_epochs=1), num_workers)
    loaded = iter(batches)
    assert next(loaded).examples.x.shape == (1, 4000)
    with pytest.raises(ValueError, match=r"b.wav: .*; the file was readable at the start") as error:
        next(loaded)
    assert "\n" not in str(error.value)
    end_workers(batches)
