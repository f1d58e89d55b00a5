"""How recordings become rows: the grid, pooling, smoothing, several models, threads."""

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from birdmix.audio.decode import Blocks
from birdmix.audio.encode import write_ogg
from birdmix.audio.examine import examine
from birdmix.audio.listing import find_recordings
from birdmix.audio.reader import probe
from birdmix.audio.sound_file import AudioError
from birdmix.bundle.manifest import Manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.engine import Heard
from birdmix.inference.ensemble import Ranks, joined, joint_labels, joint_thresholds
from birdmix.inference.grid import Grid, WindowStream
from birdmix.inference.listen import Listening, listen
from birdmix.inference.listener import Listener, row_times
from birdmix.inference.room import Room
from birdmix.inference.rows import RowScores, frames_of_row, smoothed
from birdmix.inference.settings import ListenSettings
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from birdmix.windows import cut, num_windows, probability

RATE = 1000


class Meter:
    """An engine whose logits are the mean of a window and its loudest sample; T = 4 s."""

    name, batch, side_by_side, ear, num_samples = "torch meter", 4, 2, "meter", None

    def __init__(self, codes=("mean", "peak"), seconds=4.0, thresholds=None):
        self.manifest = Manifest(
            labels=Labels(codes),
            log_mel=LogMelSettings(sample_rate=RATE, f_max=400.0),
            model=ModelSettings(head="sed"),
            segment_seconds=seconds,
            thresholds=thresholds,
        )

    def hear(self, waveforms):
        return waveforms

    def judge(self, pictures):
        clip = np.stack([pictures.mean(axis=1), np.abs(pictures).max(axis=1)], axis=1)
        frames = pictures.reshape(len(pictures), 8, -1).mean(axis=2)
        return Heard(clip[:, : len(self.manifest.labels)], np.stack([frames, frames], axis=1))


def write(path: Path, samples: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return samples.astype(np.float32)


def heard(tmp_path: Path, samples: np.ndarray, engines=None, **settings):
    write(tmp_path / "a.wav", samples)
    with Listener(engines or [Meter()], ListenSettings(**settings)) as listener:
        return listener.predict(tmp_path, "a.wav")


@given(
    num_samples=st.integers(1, 200),
    row=st.integers(1, 40),
    step=st.integers(1, 50) | st.floats(1, 50),
    more=st.integers(0, 40),
    shift=st.integers(0, 30),
    tail=st.integers(0, 5),
    shared=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_windows_of_a_stream_are_cuts_of_the_whole(
    num_samples, row, step, more, shift, tail, shared, cuts
):
    grid = Grid(row, step, row + more, (0, -shift, shift) if shift else (0,), tail, shared)
    waveform = np.arange(1, num_samples + 1, dtype=np.float32)
    stream, windows = WindowStream(grid), []
    for block in np.split(waveform, sorted(min(c, num_samples) for c in cuts)):
        windows += [window for window, _ in stream.push(block)]
    windows += [window for window, _ in stream.end()]
    starts = [round(number * step) for number in range(num_windows(num_samples, row, step, tail))]
    assert len(stream.rows) == len(starts)
    for start, numbers in zip(starts, stream.rows, strict=True):
        for number, later in zip(numbers, grid.shifts, strict=True):
            wanted = cut(waveform, start - grid.lead + later, grid.heard)
            np.testing.assert_array_equal(windows[number], wanted)


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000, 44_100, 48_000])
def test_rows_lie_where_they_say_after_days_at_any_rate(rate: int):
    grid = Grid.of(rate, row=1.0, step=1 / 3, heard=rate)
    rows = 1 + np.arange(3) * 10**6
    begins, _ = row_times(int(rows[-1]) + 1, 1.0, 1 / 3, np.inf)
    for row in rows:
        assert abs(grid.starts(row)[0] / rate - begins[row]) < 0.6 / rate


@pytest.mark.parametrize("name", ["window", "step", "context", "shift"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e9, -1.0])
def test_times_that_are_none_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"--{name} "):
        ListenSettings(**{name: value})
    with pytest.raises(ValueError, match="--step 1e-09: it must be above 0, from 0.05 to 86400 s"):
        ListenSettings(step=1e-9)


def test_a_window_that_two_rows_hear_is_heard_once():
    grid = Grid(row=10, step=10, heard=10, shifts=(0, -5, 5))
    stream = WindowStream(grid)
    windows = [*stream.push(np.ones(100, np.float32)), *stream.end()]
    assert len(stream.rows) == 10 and len(windows) == 21  # not 30


def test_rows_stand_side_by_side_and_the_last_ends_with_the_recording(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)[: 11 * RATE]
    rows = heard(tmp_path, samples)
    np.testing.assert_array_equal(rows.start_seconds, [0, 4, 8])
    np.testing.assert_array_equal(rows.end_seconds, [4, 8, 11])
    np.testing.assert_allclose(rows.score[:, 0], [0.1, 0.2, 0.3 * 3 / 4], rtol=1e-5)
    assert rows.seconds == 11


def test_context_lies_about_the_row_with_silence_beyond_the_ends(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3, 0.4], 2 * RATE)
    rows = heard(tmp_path, samples, window=2.0)  # of 4 s heard, 1 s on both sides
    expected = [(0.1 * 2 + 0.2) / 4, (0.1 + 0.4 + 0.3) / 4, (0.2 + 0.6 + 0.4) / 4, (0.3 + 0.8) / 4]
    np.testing.assert_allclose(rows.score[:, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(rows.end_seconds, [2, 4, 6, 8])


def test_step_below_the_row_overlaps_and_above_it_leaves_gaps(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)
    assert list(heard(tmp_path, samples, step=2.0).start_seconds) == [0, 2, 4, 6, 8]
    assert list(heard(tmp_path, samples, step=6.0).start_seconds) == [0, 6]


def test_shifts_are_averaged(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)
    plain, early, late = 0.2, 0.1 * 0.5 + 0.2 * 0.5, 0.2 * 0.5 + 0.3 * 0.5
    rows = heard(tmp_path, samples, shift=2.0)
    np.testing.assert_allclose(rows.score[1, 0], (plain + early + late) / 3, rtol=1e-5)


def test_frames_within_the_row_are_its_score(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3, 0.4], 2 * RATE)
    samples[RATE * 5 // 2] = 5.0  # within the second row's last half second
    mean = heard(tmp_path, samples, window=2.0, pool="mean").score[:, 0]
    np.testing.assert_allclose(mean[[0, 2, 3]], [0.1, 0.3, 0.4], atol=1e-3 + 5 / 4 / RATE)
    most = heard(tmp_path, samples, window=2.0, pool="max").score[:, 0]
    assert most[1] > mean[1] + 1e-4 and most[3] == pytest.approx(0.4, rel=1e-5)


def test_a_row_shorter_than_a_frame_takes_the_nearest_one():
    grid = Grid(row=1, step=1, heard=100)
    assert frames_of_row(grid, 0, 4) == slice(1, 2) or frames_of_row(grid, 0, 4) == slice(2, 3)
    grid = Grid(row=40, step=40, heard=80)
    assert frames_of_row(grid, 0, 8) == slice(2, 6)
    shifted = Grid(row=40, step=40, heard=80, shifts=(0, -20, 20))
    assert frames_of_row(shifted, 1, 8) == slice(4, 8)  # heard earlier, the row lies later in it
    assert frames_of_row(shifted, 2, 8) == slice(0, 4)


def test_a_head_without_frames_is_not_asked_for_them():
    clips = Meter()
    clips.manifest = replace(clips.manifest, model=ModelSettings(head="gem"))
    with pytest.raises(ValueError, match="--pool max: model.head=gem hears no frames"):
        Listener([Meter(), clips], ListenSettings(pool="max"))


def test_smoothing_is_a_mean_with_the_neighbours():
    score = np.array([[0.0], [4.0], [0.0], [8.0]], np.float32)
    np.testing.assert_allclose(smoothed(score, 0.5)[:, 0], [1, 2, 3, 6])
    assert smoothed(score, 0) is score
    constant = np.full((5, 3), 1.5, np.float32)
    np.testing.assert_array_equal(smoothed(constant, 0.25), constant)


def test_models_are_aligned_by_code_and_speak_where_they_know():
    one, other = Meter(("a", "b")).manifest, Meter(("c", "b")).manifest
    labels = joint_labels([one, other])
    assert labels.codes == ("a", "b", "c")
    said = [(one.labels, [[1.0, 2.0]]), (other.labels, [[5.0, 4.0]])]

    def together(combine: str) -> np.ndarray:
        models = [RowScores(own, labels) for own, _ in said]
        for model, (_, score) in zip(models, said, strict=True):
            model.add(np.array(score, np.float32))
        return joined(models, combine, 2)

    np.testing.assert_allclose(together("logit"), [[1, 3, 5]])
    np.testing.assert_allclose(together("rank"), [[1, 2, np.nan, np.nan, 4, 5]])
    power = probability(together("power"))
    b = np.sqrt((probability(2.0) ** 2 + probability(4.0) ** 2) / 2)
    np.testing.assert_allclose(power, [[probability(1.0), b, probability(5.0)]], rtol=1e-6)


def test_scores_are_given_up_as_they_came(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("birdmix.inference.rows._PIECE", 300 * 4 * 3)
    labels, came = Labels(("a", "b", "c")), np.arange(3 * 2000, dtype=np.float32).reshape(-1, 3)
    scores = RowScores(labels, labels)
    for some in np.split(came, [1, 70, 71, 500, 1999]):
        scores.add(some)
    pieces = list(scores.give_up())
    assert max(map(len, pieces)) == 300 and not list(scores.give_up())
    np.testing.assert_array_equal(np.concatenate(pieces), came)


def test_ranks_are_means_over_models_and_equals_share_theirs(tmp_path: Path):
    first = np.array([[3.0], [1.0], [1.0], [2.0]], np.float32)
    second = np.array([[30.0], [10.0], [20.0], [40.0]], np.float32)
    ranks = Ranks(tmp_path, num_rows=4, num_models=2, num_classes=1)
    both = np.concatenate([first, second], axis=1)
    ranks.add(both[:1])
    ranks.add(both[1:])
    ranks.sort()
    expected = (np.array([3.5, 1, 1, 2.5]) + np.array([2.5, 0.5, 1.5, 3.5])) / 2 / 4
    np.testing.assert_allclose(probability(ranks.mean(both))[:, 0], expected, rtol=1e-5)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="not everywhere")
def test_a_disk_without_room_for_ranks_is_an_error_that_says_so(tmp_path: Path):
    with pytest.raises(OSError, match=str(tmp_path)):
        Ranks(tmp_path, num_rows=1 << 40, num_models=2, num_classes=1 << 10)
    assert not list(tmp_path.iterdir())


def test_thresholds_of_several_models_meet_in_the_middle_of_logits():
    one = Meter(("a", "b"), thresholds=(0.2, None)).manifest
    other = Meter(("a", "c"), thresholds=(0.8, 0.3)).manifest
    labels = joint_labels([one, other])
    np.testing.assert_allclose(joint_thresholds([one, other], labels), [0.5, np.nan, 0.3])
    assert joint_thresholds([Meter().manifest], Labels(("mean", "peak"))) is None


def test_models_of_different_lengths_need_a_row_said(tmp_path: Path):
    engines = [Meter(), Meter(seconds=2.0)]
    with pytest.raises(ValueError, match="2, 4 s: say how long a row is, --window 2"):
        Listener(engines, ListenSettings())
    rows = heard(tmp_path, np.full(8 * RATE, 0.5), engines, window=2.0)
    assert rows.score.shape == (4, 2) and rows.score[1, 0] == pytest.approx(0.5)


def test_a_context_shorter_than_the_row_is_refused():
    with pytest.raises(ValueError, match="rows of 6 s of which 4 s are heard"):
        Listener([Meter()], ListenSettings(window=6.0))


def test_one_channel_of_many(tmp_path: Path):
    both = np.stack([np.full(4 * RATE, 0.1), np.full(4 * RATE, 0.3)], axis=1)
    assert heard(tmp_path, both).score[0, 0] == pytest.approx(0.2)
    assert heard(tmp_path, both, channel=2).score[0, 0] == pytest.approx(0.3)
    with pytest.raises(AudioError, match="has no channel 3, only 2"):
        heard(tmp_path, both, channel=3)


def test_what_is_said_of_a_recording_does_not_depend_on_the_others(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(RATE * (1 + 3 * number)))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    paths = [*(f"{number}.wav" for number in range(12)), "broken.wav", "absent.wav"]
    books = Listening()
    with Listener([Meter()], ListenSettings(step=1.0)) as listener:
        together = list(listen(listener, tmp_path, paths, listening=books))
        alone = {path: listener.predict(tmp_path, path) for path in paths[:12]}
    assert {each.path for each in together} == set(paths[:12])
    for each in together:
        np.testing.assert_array_equal(each.score, alone[each.path].score)
    assert [path for path, _ in books.failed] == ["absent.wav", "broken.wav"]
    assert (books.done, books.num_files) == (14, 14)
    assert books.seconds == sum(1 + 3 * number for number in range(12))


def test_an_engine_is_called_by_as_many_threads_as_it_says(tmp_path: Path):
    class Counted(Meter):
        ear, calls, most = "its own", 0, 0

        def judge(self, pictures):
            self.calls += 1
            self.most = max(self.most, self.calls)
            time.sleep(0.001)
            self.calls -= 1
            return super().judge(pictures)

    one, many = Counted(), Meter()
    one.side_by_side, many.side_by_side = 1, 4
    for number in range(4):
        write(tmp_path / f"{number}.wav", np.zeros(40 * RATE))
    with Listener([many, one], ListenSettings(step=1.0)) as listener:
        assert len(list(listen(listener, tmp_path, [f"{n}.wav" for n in range(4)]))) == 4
    assert one.most == 1


def test_how_far_a_recording_is_shows_while_it_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Slow(Meter):
        def judge(self, pictures):
            time.sleep(0.005)
            return super().judge(pictures)

    monkeypatch.setattr("birdmix.inference.listen._TELL_EVERY", 0.01)
    write(tmp_path / "a.wav", np.zeros(400 * RATE))
    books, told = Listening(), []
    with Listener([Slow()], ListenSettings()) as listener:
        ways = {"on_progress": lambda b: told.append((b.bytes_done, b.seconds)), "listening": books}
        assert len(list(listen(listener, tmp_path, ["a.wav"], **ways))) == 1
    assert told == sorted(told) and len(set(told)) > 4
    assert told[-1] == ((tmp_path / "a.wav").stat().st_size, 400)
    rate = books.rate
    time.sleep(0.01)
    assert books.rate == rate  # its clock has stopped


def test_when_it_began_is_read_before_a_card_is_pulled(tmp_path: Path):
    file = tmp_path / "20200504_053000.wav"
    write(file, np.zeros(20 * RATE))
    flac = tmp_path / "b.flac"
    with soundfile.SoundFile(flac, "w", RATE, 1) as sound:
        sound.comment = "Recorded at 05:30:00 04/05/2020 (UTC)"
        sound.write(np.zeros(20 * RATE))
    with Listener([Meter()], ListenSettings()) as listener:
        named = listener.predict(tmp_path, file.name).recorded_at
        told = listener.predict(tmp_path, flac.name, lambda _: flac.unlink(missing_ok=True))
    assert named == datetime(2020, 5, 4, 5, 30)
    assert told.recorded_at == datetime(2020, 5, 4, 5, 30, tzinfo=UTC)


def test_a_recording_too_large_for_the_room_is_heard_alone():
    room, order = Room(10), []
    room.take(4)
    large = threading.Thread(target=lambda: (room.take(100), order.append("large")))
    large.start()
    small = threading.Thread(target=lambda: (room.take(1), order.append("small")))
    while not room._door.locked():
        time.sleep(0.001)
    small.start()
    time.sleep(0.02)
    assert not order  # the small one would fit, but asked later
    room.give(4)
    large.join()
    time.sleep(0.02)
    assert order == ["large"]
    room.give(100)
    small.join()
    assert order == ["large", "small"]


def test_a_folder_that_goes_away_ends_it(tmp_path: Path):
    folder = tmp_path / "card"
    for number in range(3):
        write(folder / f"{number}.wav", np.zeros(RATE))
    with Listener([Meter()], ListenSettings()) as listener:
        running = listen(listener, folder, [f"{n}.wav" for n in range(3)] * 40)
        next(running)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        with pytest.raises(ValueError, match="gone; bring it back"):
            list(running)


def test_an_error_of_the_engine_ends_it_and_the_threads(tmp_path: Path):
    class Broken(Meter):
        def judge(self, pictures):
            raise RuntimeError("a bug")

    write(tmp_path / "a.wav", np.zeros(40 * RATE))
    with Listener([Broken()], ListenSettings()) as listener, pytest.raises(RuntimeError):
        list(listen(listener, tmp_path, ["a.wav"] * 20))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_file_that_shrinks_while_it_is_read_is_heard_as_far_as_it_goes(tmp_path: Path, kind: str):
    file = tmp_path / f"a.{kind}"
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 100)
    write_ogg(file, noise, 16_000) if kind == "ogg" else soundfile.write(file, noise, 16_000)
    blocks = Blocks(file, 16_000, block_seconds=5)
    decoded = []
    for number, block in enumerate(blocks):
        decoded.append(len(block))
        if number == 3:
            os.truncate(file, file.stat().st_size // 2)
    assert 20 * 16_000 <= sum(decoded) < 60 * 16_000
    assert [problem.name for problem in blocks.problems] in (["truncated"], ["header"])


@pytest.mark.parametrize("combine", ["logit", "rank"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_among_logits_is_a_failure_that_names_the_bundle_and_infinity_is_sure(
    tmp_path: Path, combine: str, wrong: float
):
    class Broken(Meter):
        """Its logits of what is loud are no numbers."""

        def judge(self, pictures):
            clip, frames = super().judge(pictures)
            clip[clip[:, 1] > 0.5] = wrong, -wrong
            return Heard(clip, frames)

    write(tmp_path / "good.wav", np.full(9 * RATE, 0.1))
    write(tmp_path / "bad.wav", np.repeat([0.1, 0.9], 4 * RATE))
    books = Listening()
    settings = ListenSettings(combine=combine, shift=1.0)
    with Listener([Meter(), Broken()], settings) as listener:
        paths = ["bad.wav", "good.wav"]
        found = {each.path: each for each in listen(listener, tmp_path, paths, listening=books)}
    if np.isnan(wrong):
        assert list(found) == ["good.wav"]
        reason = "bundle 2 of 2 (torch meter) gives logits of it that are NaN"
        assert books.failed == [("bad.wav", reason)]
    else:
        score = found["bad.wav"].score[1, -2:]
        assert np.isfinite(score).all() and score[0] > 1000 and score[1] < -1000


def test_doctor_and_predictions_agree_on_odd_files(tmp_path: Path, real_audio: Path):
    """What decodes, how long it is, and what is odd about it; what doctor alone says is not."""
    folder = real_audio / "odd"
    names = find_recordings(folder)
    engine, listening = Meter(), Listening()
    engine.manifest = replace(engine.manifest, log_mel=LogMelSettings(sample_rate=32_000))
    with Listener([engine], ListenSettings()) as listener:
        heard = {each.path: each for each in listen(listener, folder, names, listening=listening)}
    failed = dict(listening.failed)
    assert heard.keys() | failed.keys() == set(names)
    for name in names:
        examination = examine(folder / name)
        alone = ("extension", "rate", "channels")  # of the doctor
        shared = [problem for problem in examination.problems if problem.name not in alone]
        if name in failed:
            assert {problem.name for problem in shared} <= {"unreadable", "empty"}, name
        else:
            assert heard[name].warning == "; ".join(map(str, shared))
            assert heard[name].seconds == pytest.approx(examination.seconds, abs=1e-4)
            info = probe(folder / name)
            if not any(problem.name == "header" for problem in shared):
                assert info.num_frames / info.sample_rate == pytest.approx(
                    examination.seconds, abs=1e-4
                )


def test_a_recording_of_two_samples_fails_and_is_no_recording_without_rows(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, 0.2]), 192_000)
    listening = Listening()
    with Listener([Meter()], ListenSettings()) as listener:
        assert list(listen(listener, tmp_path, ["a.wav"], listening=listening)) == []
    assert listening.failed == [("a.wav", "holds only 2 samples at 192000 Hz")]
