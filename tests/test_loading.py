"""Stores, samplers, cuts, targets, batches and loaders."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from birdmix.labels import Labels
from birdmix.loading import pcm
from birdmix.loading.batches import Pooled, Segments
from birdmix.loading.cuts import event_start, filled, loud_start, summed
from birdmix.loading.judging import Windows, in_windows
from birdmix.loading.loader import end_workers, loader
from birdmix.loading.sampler import EpochBatches, PooledBatches, appearances
from birdmix.loading.store import FileStore, MemoryStore, PcmStore, Store
from birdmix.loading.targets import Targets
from birdmix.recordings.arrow import Event, Span
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings
from tests.recordings import RATE, opened, read_csv, read_folder, table, write_wave


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("robin/1-a.wav", "robin/2-b.wav", "wren/1-c.wav", "wren/deep/2-d.wav"):
        write_wave(tmp_path / path)
    return tmp_path


# ---------------------------------------------------------------- stores


@pytest.mark.parametrize("cache", ["memory", "pcm", "none"])
def test_every_store_holds_the_same_sound(folder: Path, cache: str):
    recordings, store = opened(
        read_folder(folder), 6000, cache=cache, cache_dir=str(folder / "cache")
    )
    kinds = {"memory": MemoryStore, "pcm": PcmStore, "none": FileStore}
    assert isinstance(store, kinds[cache])
    assert store.files_of(recordings).tolist() == [0, 1, 2, 3]
    assert store.lengths.tolist() == [6000] * 4
    _, files = opened(read_folder(folder), 6000, cache="none")
    np.testing.assert_allclose(store.read(1, 1000, 800), files.read(1, 1000, 800), atol=1e-4)
    assert len(store.read(0, 5900, 800)) == 100


def test_what_does_not_fit_into_memory_is_read_from_disk(folder: Path):
    assert isinstance(opened(read_folder(folder), memory_gib=1e-6)[1], FileStore)


@pytest.mark.parametrize("memory_gib", [0, 1])
def test_a_bad_recording_is_reported_once_and_leaves_the_table_whole(
    folder: Path, memory_gib: float
):
    (folder / "robin/0-bad.wav").write_bytes(b"RIFF")
    with pytest.warns(UserWarning, match=r"1 of 5 recordings yield no samples.*\n.*0-bad.wav"):
        kept, _ = opened(read_folder(folder), memory_gib=memory_gib, max_bad_fraction=0.5)
    assert len(kept) == 4
    assert kept.targets().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_too_many_bad_recordings_are_an_error_that_lists_them(folder: Path):
    (folder / "robin/0-bad.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data.max_bad_fraction=0.05.*\n.*0-bad.wav"):
        opened(read_folder(folder))


def test_a_truncated_recording_is_as_long_as_it_decodes(folder: Path):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    file = folder / "robin" / "cut.flac"
    soundfile.write(file, noise, RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    recordings, files = opened(read_folder(folder), memory_gib=0)
    at = recordings.paths.index("robin/cut.flac")
    assert 4 * RATE < files.lengths[at] < 6 * RATE
    assert len(files.read(at, int(files.lengths[at]) - RATE, RATE // 2)) == RATE // 2


@pytest.mark.parametrize("codec", ["GSM610", "G721_32"])
def test_a_recording_that_cannot_seek_trains_from_disk_as_from_memory(folder: Path, codec: str):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    soundfile.write(folder / "robin" / "0.wav", noise, RATE, subtype=codec)
    (_, memory), (recordings, files) = (
        opened(read_folder(folder), 6000, cache=cache) for cache in ("memory", "none")
    )
    at = recordings.paths.index("robin/0.wav")
    assert files.lengths[at] == memory.lengths[at] >= 5 * 6000
    pieces = [store.read(at, 20_000, 3000) for store in (memory, files)]
    np.testing.assert_allclose(*pieces, atol=1e-4)


def test_joined_and_unfinished_recordings_train_from_disk_as_from_memory(folder: Path):
    a, b = ((folder / "robin" / name).read_bytes() for name in ("1-a.wav", "2-b.wav"))
    (folder / "robin" / "1-a.wav").write_bytes(a + b)
    (folder / "robin" / "2-b.wav").write_bytes(b[:40] + bytes(4) + b[44:])
    for cache in ("memory", "none"):
        _, store = opened(read_folder(folder), RATE, cache=cache)
        assert store.lengths.tolist() == [2 * RATE, RATE, RATE, RATE]
        np.testing.assert_allclose(store.read(0, RATE, 999), store.read(1, 0, 999), atol=1e-4)


def bits_of(tmp_path: Path, wave: np.ndarray, subtype: str) -> np.ndarray:
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype=subtype)
    return pcm.decode_pcm(tmp_path / "a.wav", RATE).read(0, len(wave))


def test_16_bits_keep_what_was_16_bits_what_is_quiet_and_what_is_loud(tmp_path: Path):
    integers = np.random.default_rng(0).integers(-(2**15), 2**15, 999).astype(np.int16)
    for wave in (integers, integers // 64):
        np.testing.assert_array_equal(bits_of(tmp_path, wave, "PCM_16"), wave / 2**15)
    noise = np.random.default_rng(0).normal(size=999)
    for peak in (1e-5, 20.0):
        wave = noise * peak / np.abs(noise).max()
        kept = bits_of(tmp_path, wave, "FLOAT")
        assert np.abs(kept - wave).max() <= peak / 2**15
    assert not bits_of(tmp_path, np.zeros(9), "FLOAT").any()


def cache_files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.pcm")}


def test_a_cache_is_made_once_and_goes_on_where_it_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings = read_folder(folder)
    opened(recordings.take(np.arange(2)), **settings)  # as if it was killed half-way
    made = cache_files(folder / "cache")
    assert len(made) == 2
    decoded = []
    whole = pcm.decode_pcm
    monkeypatch.setattr(pcm, "decode_pcm", lambda *a: decoded.append(a) or whole(*a))
    opened(recordings, **settings)
    assert len(decoded) == 2 and made.items() <= cache_files(folder / "cache").items()
    opened(recordings, **settings)
    assert len(decoded) == 2


def test_a_cache_is_never_stale(folder: Path):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings, _ = opened(read_folder(folder), **settings)
    file = folder / recordings.paths[0]
    write_wave(file, value=0.25)
    os.utime(file, ns=(0, 12345))
    _, after = opened(recordings, **settings)
    assert after.read(0, 0, 5) == pytest.approx(np.full(5, 0.25), abs=1e-4)
    assert len(cache_files(folder / "cache")) == 4  # the old one is replaced
    _, other_rate = opened(recordings, 4000, **settings)
    assert other_rate.lengths.tolist() == [4000] * 4


def test_a_damaged_cache_file_is_made_anew(folder: Path):
    settings: dict[str, Any] = {"cache": "pcm", "cache_dir": str(folder / "cache")}
    recordings, store = opened(read_folder(folder), **settings)
    expected = store.read(0, 0, RATE)
    for num_bytes, file in zip((999, 50, 63, 0), cache_files(folder / "cache"), strict=True):
        file.write_bytes(file.read_bytes()[:num_bytes])
    _, again = opened(recordings, **settings)
    np.testing.assert_array_equal(again.read(0, 0, RATE), expected)


# ---------------------------------------------------------------- samplers


def test_an_epoch_holds_every_row_once_and_a_resumed_one_the_rest():
    whole = list(EpochBatches(np.ones(10), 4, seed=1, num_epochs=2, drop_last=False))
    for epoch in range(2):
        rows = [row for batch in whole for e, _, row in batch if e == epoch]
        assert sorted(rows) == list(range(10))
    resumed = EpochBatches(np.ones(10), 4, seed=1, num_epochs=2, drop_last=False, start=(1, 1))
    assert list(resumed) == whole[4:]
    assert len(resumed) == 2


def test_orders_differ_between_epochs_and_seeds():
    def orders(seed: int) -> list:
        batches = EpochBatches(np.ones(50), 5, seed=seed, num_epochs=2)
        return [batches.rows(epoch).tolist() for epoch in range(2)]

    assert orders(0)[0] != orders(0)[1] != orders(1)[1]


def test_recordings_come_up_as_often_as_asked():
    batches = EpochBatches(np.full(5, 3.0), 5, seed=0, num_epochs=1)
    assert np.bincount(batches.rows(0)).tolist() == [3] * 5


def test_a_row_comes_up_as_often_as_its_share_says_and_never_once_more_or_less():
    wanted = np.array([0.3, 1.7, 4.0, 0.0, 2.0])
    batches = EpochBatches(wanted, 4, seed=3, num_epochs=500)
    counts = np.stack([np.bincount(batches.rows(e), minlength=5) for e in range(500)])
    assert (np.abs(counts - wanted) < 1).all()
    assert counts.mean(axis=0) == pytest.approx(wanted, abs=0.07)


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(ValueError, match="data.batch_size=8 is above the 5 segments"):
        EpochBatches(np.ones(5), 8, seed=0, num_epochs=1)


CODES = [("a",)] * 6 + [("b",)] * 2 + [("a", "c"), ()]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1] * 10),
        ({"segments_per_recording": 3}, [3] * 10),
        # Frequencies are 7 (a), 2 (b), 1 (c) and 1 (without any): a rarer label decides.
        ({"sampler": "inverse"}, [1 / 7] * 6 + [1 / 2] * 2 + [1, 1]),
        ({"sampler": "sqrt"}, [7**-0.5] * 6 + [2**-0.5] * 2 + [1, 1]),
        ({"sampler": "capped", "cap": 2}, [2 / 7] * 6 + [1] * 4),
    ],
)
def test_a_sampler_goes_by_a_recordings_rarest_label(settings: dict, expected: list[float]):
    rates = appearances(table([""] * 10, CODES), DataSettings(**settings))
    if settings.get("sampler") in ("inverse", "sqrt"):
        expected = list(10 * np.array(expected) / sum(expected))
    assert rates == pytest.approx(np.array(expected))


def test_a_trace_of_a_rare_label_makes_no_recording_rare():
    labels = Labels(("a", "b"))
    recordings = Recordings.build(
        Path(), labels, path=list("wxyz"),
        codes=[("a",), ("a",), ("a", "b"), ("b",)], values=[(1,), (1,), (0.4, 0.05), (1,)],
    )  # fmt: skip
    rates = appearances(recordings, DataSettings(sampler="inverse"))
    assert rates == pytest.approx(4 * np.array([1, 1, 1, 3]) / 6)


def test_a_pool_goes_through_each_of_its_sources_in_turn():
    batches = EpochBatches(np.ones(12), 4, seed=0, num_epochs=2)
    keys = list(PooledBatches(batches, [3, 50], 6))
    assert [each.samples for each in keys] == list(batches)
    drawn = [row for each in keys[:3] for _, _, row in each.pool]
    small, large = drawn[::2], drawn[1::2]
    for lap in range(3):
        assert sorted(small[3 * lap : 3 * lap + 3]) == [0, 1, 2]
    assert len(set(large)) == 9 and min(large) >= 3 and max(large) < 53
    later = [row for each in keys[3:] for _, _, row in each.pool]
    assert len(set(large + later[1::2])) == 18  # the next epoch goes on with the others


def test_a_pool_is_dealt_out_to_processes_and_resumed_with_the_batches():
    def pooled(rank: int, count: int, start: tuple[int, int] = (0, 0)) -> list:
        batches = EpochBatches(
            np.ones(12), 4, seed=0, num_epochs=2, rank=rank, num_processes=count, start=start
        )
        return list(PooledBatches(batches, [3, 50], 5))

    whole, hands = pooled(0, 1), [pooled(rank, 2) for rank in range(2)]
    for batch, *dealt in zip(whole, *hands, strict=True):
        assert sorted(key for hand in dealt for key in hand.pool) == batch.pool
    assert pooled(1, 2, start=(1, 1)) == hands[1][4:]


# ---------------------------------------------------------------- cuts


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("how", ["loop", "pad", "gaps"])
def test_what_fills_up_a_short_recording_is_itself_or_exact_silence(how: str):
    wave = np.linspace(0.1, 1, 100).astype(np.float32)
    whole = [filled(wave, 450, how, rng(seed)) for seed in range(20)]
    assert all(len(each) == 450 and set(each[each != 0]) == set(wave) for each in whole)
    silence = np.mean([(each == 0).mean() for each in whole])
    assert silence == pytest.approx({"loop": 0, "pad": 350 / 450, "gaps": 0.15}[how], abs=0.1)
    starts = {int(np.flatnonzero(each)[0]) for each in whole}
    assert (len(starts) > 10) is (how == "pad")
    np.testing.assert_array_equal(filled(wave, 60, how, rng()), wave[:60])


def test_louder_places_come_up_more_often_and_rumble_does_not_count():
    t = np.arange(10 * RATE) / RATE
    rumble = np.where(t < 5, 0.9 * np.sin(2 * np.pi * 20 * t), 0)
    song = np.where(t > 7, 0.1 * np.sin(2 * np.pi * 3000 * t), 0)
    wave = rumble + song

    def read(start: int, num_samples: int) -> np.ndarray:
        return wave[start : start + num_samples]

    starts = [loud_start(read, 0, len(wave), RATE, rng(seed)) for seed in range(60)]
    assert np.mean([start > 6 * RATE for start in starts]) > 0.7
    assert loud_start(lambda s, n: np.zeros(n), 0, 100, 10, rng()) >= 0


@pytest.mark.parametrize("event", [(30, 50), (0, 5), (95, 100), (10, 90)])
def test_a_segment_around_an_event_holds_it_or_lies_in_it(event: tuple[int, int]):
    for seed in range(50):
        start = event_start(event, 0, 100, 30, rng(seed))
        assert 0 <= start <= 70
        inside = start <= event[0] and event[1] <= start + 30
        assert inside or (event[0] <= start and start + 30 <= event[1])


def test_consecutive_segments_add_up():
    wave = np.arange(25, dtype=np.float32)
    total = summed(lambda start, num: wave[start : start + num], 2, 25, 10)
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
        ((0, 1.9), [0, 0, 0], [1, 1, 1]),  # annotated silence is a true negative
        ((0, 5), [1, 1, 0], [1, 1, 1]),
        ((0, 2.1), [0, 0, 0], [0, 1, 1]),  # a tenth of a second of a: who can tell?
        ((0, 2.3), [1, 0, 0], [1, 1, 1]),
        ((3.8, 5), [1, 1, 0], [1, 1, 1]),  # all of a short event
        ((7, 10), [0, 0, 0], [0, 0, 0]),  # something that nobody has named
        ((7, 8.1), [0, 0, 0], [0, 0, 0]),  # though there is little of it
        ((4, 5), [0, 0, 0], [1, 1, 1]),  # a touch is no overlap
    ],
)
def test_a_stretch_is_labelled_with_the_events_it_holds_enough_of(
    span: tuple, target: list, known: list
):
    found = Targets(events_table(), 0.2)(np.array([0]), np.array([span]))
    assert found[0][0].tolist() == target
    assert found[1][0].tolist() == [bool(each) for each in known]


def test_without_a_least_overlap_a_touch_is_none():
    events = [Event(5, 6, "a"), Event(8, 8, "b")]
    recordings = Recordings.build(Path(), Labels(("a", "b")), path=["x"], events=[events])
    spans = np.array([[0, 5], [4, 6], [6, 8], [8, 9.0]])
    target, known = Targets(recordings, 0.0)(np.zeros(4, int), spans)
    assert target.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]] and known.all()


def test_where_nobody_has_looked_only_what_was_found_is_known():
    targets = Targets(events_table([[Span(0, 3), Span(2.5, 5)]]), 0.2)
    rows, spans = np.array([0, 0, 0]), np.array([[0, 5.0], [1, 5.5], [5.5, 7]])
    target, known = targets(rows, spans)
    assert target.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert known.tolist() == [[True] * 3, [True, True, False], [False] * 3]


def test_a_recording_labelled_as_a_whole_has_its_labels_everywhere():
    recordings = Recordings.build(
        Path(), Labels(("a", "b", "c")), path=["x"],
        codes=[("a", "b")], values=[(1.0, 0.9)], unknown=[("c",)],
    )  # fmt: skip
    target, known = Targets(recordings)(np.array([0]), np.array([[3, 4]]))
    assert target[0].tolist() == pytest.approx([1, 0.9, 0])
    assert known[0].tolist() == [True, True, False]


# ---------------------------------------------------------------- batches


def segments(folder: Path, num_samples: int, **settings: Any) -> Segments:
    recordings, store = opened(read_folder(folder))
    return Segments(recordings, store, num_samples, RATE, 0, DataSettings(**settings))


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
    recordings, store = opened(read_folder(folder))
    windows = Windows(recordings, store, 2 * RATE, RATE, max_windows=3)
    (padded,) = windows.__getitems__([windows.keys[0]]).x
    assert padded[RATE:].abs().max() == 0 and padded[:RATE].abs().max() > 0


def ramp(folder: Path, text: str, **settings: Any) -> tuple[Recordings, Store]:
    """A table of one recording of ten seconds whose value tells the time."""
    write_wave(folder / "a.wav", seconds=10)
    return opened(read_csv(folder, text), **settings)


def seconds_at(waveform: torch.Tensor) -> list[float]:
    return (waveform[[0, -1]] * 20).tolist()


def test_annotated_parts_are_cut_where_they_stand(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels,start,end\na.wav,x,4,6\n")
    windows = Windows(recordings, store, 2 * RATE, RATE, max_windows=9)
    (window,) = windows.__getitems__(windows.keys).x
    assert seconds_at(window) == pytest.approx([4, 6], abs=0.01)
    part = Segments(recordings, store, RATE, RATE, seed=0).__getitems__([(0, 0, 0)]).x[0]
    assert seconds_at(part)[0] >= 4 and seconds_at(part)[1] <= 6


def test_a_part_is_judged_by_nothing_around_it(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels,start,end\na.wav,x,4,5\na.wav,y,5,10\n")
    windows = Windows(recordings, store, 2 * RATE, RATE, max_windows=9)
    assert [row for row, _ in windows.keys] == [0, 1, 1, 1]
    short = windows.__getitems__(windows.keys[:1]).x[0]
    assert not short[: RATE // 2].any() and not short[-RATE // 2 :].any()
    assert seconds_at(short[RATE // 2 : -RATE // 2]) == pytest.approx([4, 5], abs=0.01)
    around = Windows(recordings, store, 2 * RATE, RATE, max_windows=9, with_context=True)
    assert seconds_at(around.__getitems__(around.keys[:1]).x[0]) == pytest.approx(
        [3.5, 5.5], abs=0.01
    )


@pytest.mark.parametrize("start", [3, 9])
def test_segments_may_be_cut_from_the_start(tmp_path: Path, start: int):
    recordings, store = ramp(tmp_path, f"path,labels,start,end\na.wav,x,{start},10\n")
    settings = DataSettings(segment="start")
    data = Segments(recordings, store, RATE, RATE, 0, settings)
    assert seconds_at(data.__getitems__([(0, 7, 0)]).x[0]) == pytest.approx(
        [start, start + 1], abs=0.01
    )


def marked(folder: Path, **columns: Any) -> tuple[Recordings, Store]:
    write_wave(folder / "a.wav", seconds=10)
    events = [[Event(3, 3.5, "x"), Event(7, 8, "y")]]
    recordings = Recordings.build(
        folder, Labels(("x", "y")), path=["a.wav"], events=events, **columns
    )
    return opened(recordings)


def test_segments_around_events_carry_the_labels_of_what_they_hold(tmp_path: Path):
    recordings, store = marked(tmp_path)
    data = Segments(recordings, store, RATE, RATE, 0, DataSettings(segment="event"))
    batch = data.__getitems__([(0, position, 0) for position in range(40)])
    for waveform, target in zip(batch.x, batch.target.tolist(), strict=True):
        begin, _ = seconds_at(waveform)
        assert target == ([1, 0] if begin < 5 else [0, 1])
    assert batch.known.all() and {tuple(t) for t in batch.target.tolist()} == {(1, 0), (0, 1)}


def test_marked_recordings_validate_window_by_window(tmp_path: Path):
    recordings, store = marked(tmp_path)
    judged = in_windows(recordings, store, 4 * RATE, RATE, 0.2)
    assert judged.column("start").tolist() == [0, 4, 8]
    assert judged.targets().tolist() == [[1, 0], [0, 1], [0, 0]]
    windows = Windows(judged, store, 4 * RATE, RATE, max_windows=1)
    assert windows.keys == [(0, 0), (1, 4 * RATE), (2, 8 * RATE)]
    looked, store = marked(tmp_path, annotated=[[Span(0, 4)]])
    assert in_windows(looked, store, 4 * RATE, RATE, 0.2).column("start").tolist() == [0, 4]


def test_only_recordings_of_several_labels_are_summed_up(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=4, value=0.1)
    text = "path,labels,start,end\na.wav,x,,\n"
    weak = text.replace("x", "x;y")
    for content, level in ((text, 0.1), (weak, 0.4)):
        recordings, store = opened(read_csv(tmp_path, content))
        settings = DataSettings(segment_seconds=1, self_sum_seconds=60)
        data = Segments(recordings, store, RATE, RATE, 0, settings)
        batch = data.__getitems__([(0, 0, 0)])
        assert batch.x[0].numpy() == pytest.approx(np.full(RATE, level), abs=1e-3)


def test_a_batch_brings_its_pool(folder: Path):
    data = segments(folder, 800)
    recordings, store = opened(read_folder(folder))
    pool = Segments(recordings, store, 800, RATE, 0, DataSettings(), "pool segment")
    (keys,) = PooledBatches(EpochBatches(np.ones(4), 4, seed=0, num_epochs=1), [4], 3)
    batch = Pooled(data, pool).__getitems__(keys)
    assert batch.pool is not None and batch.pool.x.shape == (3, 800)
    assert batch.pool.row.tolist() == [row for _, _, row in keys.pool]
    assert torch.equal(batch.x, data.__getitems__(keys.samples).x)
    same = [(0, 0, 1)]
    assert not torch.equal(pool.__getitems__(same).x, data.__getitems__(same).x)


def test_augmented_segments_depend_on_their_position_alone(folder: Path):
    gain = {"_target_": "audiomentations.Gain", "min_gain_db": -20, "max_gain_db": 0, "p": 1.0}
    plain, data = segments(folder, 800), segments(folder, 800, augment=[gain])
    alone = data.__getitems__([(0, 5, 2)]).x[0]
    among = data.__getitems__([(0, 4, 0), (0, 5, 2)]).x
    assert torch.equal(alone, among[1])
    ratio = alone / plain.__getitems__([(0, 5, 2)]).x[0]
    assert 0.1 <= ratio.mean() < 1 and ratio.std() < 1e-4
    assert (among[0] / plain.__getitems__([(0, 4, 0)]).x[0]).nanmean() != ratio.mean()


def test_long_recordings_are_heard_in_evenly_spaced_windows(tmp_path: Path):
    recordings, store = ramp(tmp_path, "path,labels\na.wav,x\n")
    windows = Windows(recordings, store, RATE, RATE, max_windows=4)
    assert [start // RATE for _, start in windows.keys] == [0, 3, 6, 9]


def test_a_few_samples_beyond_the_last_window_get_none_of_their_own(tmp_path: Path):
    write_wave(tmp_path / "a.wav", seconds=2.001)  # encoders pad
    recordings, store = opened(read_csv(tmp_path, "path,labels\na.wav,x\n"))
    assert Windows(recordings, store, RATE, RATE, max_windows=9).keys == [(0, 0), (0, RATE)]


def test_a_part_beyond_the_end_of_what_decodes_is_refused(folder: Path):
    recordings, store = opened(read_folder(folder).take(np.array([0])))
    part = recordings.as_parts(
        np.array([7.0]), np.array([9.0]), np.ones((1, 2)), np.ones((1, 2), bool)
    )
    with pytest.raises(ValueError, match=r"robin/1-a.wav: the part from 7 to 9 s lies beyond"):
        Segments(part, store, RATE, RATE, seed=0)


# ---------------------------------------------------------------- loaders


def test_batches_with_pools_stay_what_they_are_while_others_are_loaded(folder: Path):
    data, pool = segments(folder, 800), segments(folder, 800, short="gaps")
    batches = EpochBatches(np.ones(4), 3, seed=3, num_epochs=12, drop_last=False)
    loaded = []
    for num_workers in (0, 1, 3):
        keys = PooledBatches(batches, [4], 2)
        loaded.append(
            [(batch.x, batch.pool.x) for batch in loader(Pooled(data, pool), keys, num_workers)]
        )
    assert [len(x) for x, _ in loaded[0]] == [3, 1] * 12
    for others in loaded[1:]:
        for one, other in zip(loaded[0], others, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_any_number_of_workers_loads_the_same_batches(folder: Path):
    gain = {"_target_": "audiomentations.Gain", "p": 0.5}
    data = segments(folder, 800, augment=[gain], short="gaps", segment="energy")
    loaded = []
    for num_workers in (0, 2):
        batches = EpochBatches(np.ones(4), 2, seed=3, num_epochs=3)
        loaded.append([batch.x for batch in loader(data, batches, num_workers)])
    assert len(loaded[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(*loaded, strict=True))


class InOrder(EpochBatches):
    def rows(self, epoch: int) -> np.ndarray:
        return np.arange(len(self.appearances))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_recording_that_breaks_on_the_way_is_told_in_one_line(tmp_path: Path, num_workers: int):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8000), 8000)
    labels = Labels(("x",))
    recordings = Recordings.build(tmp_path, labels, path=["a.wav", "b.wav"], codes=[("x",), ("x",)])
    recordings, store = opened(recordings, memory_gib=0)
    data = Segments(recordings, store, 4000, 8000, seed=0)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    batches = loader(data, InOrder(np.ones(2), 1, seed=0, num_epochs=1), num_workers)
    loaded = iter(batches)
    assert next(loaded).x.shape == (1, 4000)
    with pytest.raises(
        ValueError, match=r"b.wav: .*; it could be read when the run began"
    ) as error:
        next(loaded)
    assert "\n" not in str(error.value)
    end_workers(batches)
