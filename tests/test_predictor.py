"""Prediction of recordings: windows, frame pooling, smoothing, several models, threads."""

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmix.audio.audio_file import AudioError
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.encode import write_ogg
from birdmix.audio.examine import examine_audio_file
from birdmix.audio.find_recordings import find_recordings
from birdmix.audio.stream_reader import read_audio_info
from birdmix.bundle.manifest import Manifest
from birdmix.engines.engine_interface import EngineOutput
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.ensemble import (
    Ranks,
    combine_recording_logits,
    mean_thresholds,
    union_of_labels,
)
from birdmix.inference.memory_budget import MemoryBudget
from birdmix.inference.predict_files import Progress, predict_files
from birdmix.inference.recording_predictions import PredictionLayout
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.inference.window_grid import ContextStream, WindowGrid
from birdmix.inference.window_logits import WindowLogits, frames_in_window, smooth
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from birdmix.windows import LAST_WINDOWS, extract_padded, num_windows, probability

RATE = 1000


class MeanEngine:
    """An engine whose logits are the mean and the peak of a context of 4 s."""

    name, batch_size, num_threads, input_key, num_samples = "torch meter", 4, 2, "meter", None

    def __init__(self, codes=("mean", "peak"), seconds=4.0, thresholds=None):
        self.manifest = Manifest(
            labels=Labels(codes),
            log_mel=LogMelSettings(sample_rate=RATE, f_max=400.0),
            model=ModelSettings(head="sed"),
            segment_seconds=seconds,
            thresholds=thresholds,
        )

    def preprocess(self, waveforms):
        return waveforms

    def infer(self, inputs):
        clip = np.stack([inputs.mean(axis=1), np.abs(inputs).max(axis=1)], axis=1)
        frames = inputs.reshape(len(inputs), 8, -1).mean(axis=2)
        return EngineOutput(
            clip[:, : len(self.manifest.labels)], np.stack([frames, frames], axis=1)
        )


def write(path: Path, samples: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return samples.astype(np.float32)


def predict(tmp_path: Path, samples: np.ndarray, engines=None, **settings):
    write(tmp_path / "a.wav", samples)
    with RecordingPredictor(engines or [MeanEngine()], PredictSettings(**settings)) as predictor:
        return predictor.predict(tmp_path, "a.wav")


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 200),
    row=st.integers(1, 40),
    step=st.integers(1, 50) | st.floats(1, 50),
    more=st.integers(0, 40),
    shift=st.integers(0, 30),
    tail=st.integers(0, 5),
    shared=st.booleans(),
    last_window=st.sampled_from(LAST_WINDOWS),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_contexts_of_a_stream_equal_cuts_of_the_whole_recording(
    num_samples, row, step, more, shift, tail, shared, last_window, cuts
):
    shifts = (0, -shift, shift) if shift else (0,)
    grid = WindowGrid(row, step, row + more, shifts, tail, shared, last_window)
    waveform = np.arange(1, num_samples + 1, dtype=np.float32)
    stream, windows = ContextStream(grid), []
    for block in np.split(waveform, sorted(min(c, num_samples) for c in cuts)):
        windows += [window.copy() for window, _ in stream.push(block)]
    windows += [window for window, _ in stream.end()]
    count = num_windows(num_samples, row, step, tail, last_window)
    starts = [round(number * step) for number in range(count)]
    if last_window == "full":
        starts[-1] = min(starts[-1], max(num_samples - row, 0))
    assert len(stream.windows) == len(starts)
    for start, numbers in zip(starts, stream.windows, strict=True):
        for number, later in zip(numbers, grid.shifts, strict=True):
            wanted = extract_padded(
                waveform, start - grid.context_samples_before_window + later, grid.context
            )
            np.testing.assert_array_equal(windows[number], wanted)


@pytest.mark.parametrize(
    ("last_window", "starts"), [("full", [0, 4, 6.24]), ("pad", [0, 4, 8]), ("drop", [0, 4])]
)
def test_the_last_window_is_moved_back_padded_or_dropped(
    tmp_path: Path, last_window: str, starts: list[float]
):
    samples = np.random.default_rng(0).uniform(0.1, 0.9, 10_240)
    found = predict(tmp_path, samples, last_window=last_window)
    assert found.start_seconds.tolist() == pytest.approx(starts)
    assert found.end_seconds[-1] == pytest.approx(min(starts[-1] + 4, 10.24))
    for start, logit in zip(starts, found.logits[:, 0], strict=True):
        begin = round(start * RATE)
        window = extract_padded(samples, begin, 4 * RATE)
        assert logit == pytest.approx(window.mean(), rel=1e-5)


@pytest.mark.parametrize("last_window", LAST_WINDOWS)
def test_a_recording_shorter_than_a_window_has_one_that_is_padded(tmp_path: Path, last_window: str):
    found = predict(tmp_path, np.full(RATE, 0.8), last_window=last_window)
    assert (found.start_seconds.tolist(), found.end_seconds.tolist()) == ([0], [1])
    assert found.logits[0, 0] == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000, 44_100, 48_000])
def test_windows_are_in_place_after_days_at_any_sample_rate(rate: int):
    grid = WindowGrid.from_seconds(rate, window=1.0, hop=1 / 3, context=rate)
    rows = 1 + np.arange(3) * 10**6
    layout = PredictionLayout(Labels(("a",)), 1.0, 1 / 3, last_window="pad")
    logits = np.zeros(int(rows[-1]) + 1, np.float32)
    predictions = layout.build("", logits, seconds=np.inf, recorded_at=None, warning="")
    begins = predictions.start_seconds
    for row in rows:
        assert abs(grid.context_starts_of_window(row)[0] / rate - begins[row]) < 0.6 / rate


@pytest.mark.parametrize("name", ["window", "hop", "context", "shift"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e9, -1.0])
def test_times_out_of_range_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"--{name} "):
        PredictSettings(**{name: value})
    with pytest.raises(ValueError, match="--hop 1e-09: it must be from 0.05 to 86400 s"):
        PredictSettings(hop=1e-9)


def test_a_context_that_two_windows_share_is_computed_once():
    grid = WindowGrid(window=10, hop=10, context=10, shifts=(0, -5, 5))
    stream = ContextStream(grid)
    windows = [*stream.push(np.ones(100, np.float32)), *stream.end()]
    assert len(stream.windows) == 10 and len(windows) == 21  # not 30


def test_windows_adjoin_and_a_padded_one_ends_with_the_recording(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)[: 11 * RATE]
    predictions = predict(tmp_path, samples, last_window="pad")
    np.testing.assert_array_equal(predictions.start_seconds, [0, 4, 8])
    np.testing.assert_array_equal(predictions.end_seconds, [4, 8, 11])
    np.testing.assert_allclose(predictions.logits[:, 0], [0.1, 0.2, 0.3 * 3 / 4], rtol=1e-5)
    assert predictions.seconds == 11 and predictions.labels.codes == ("mean", "peak")


def test_context_surrounds_the_window_with_silence_beyond_the_ends(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3, 0.4], 2 * RATE)
    predictions = predict(tmp_path, samples, window=2.0)  # in contexts of 4 s, 1 s on both sides
    expected = [(0.1 * 2 + 0.2) / 4, (0.1 + 0.4 + 0.3) / 4, (0.2 + 0.6 + 0.4) / 4, (0.3 + 0.8) / 4]
    np.testing.assert_allclose(predictions.logits[:, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(predictions.end_seconds, [2, 4, 6, 8])


def test_a_hop_below_the_window_overlaps_and_above_it_leaves_gaps(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)
    assert list(predict(tmp_path, samples, hop=2.0).start_seconds) == [0, 2, 4, 6, 8]
    assert list(predict(tmp_path, samples, hop=6.0).start_seconds) == [0, 6]


def test_shifted_contexts_are_averaged(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3], 4 * RATE)
    plain, early, late = 0.2, 0.1 * 0.5 + 0.2 * 0.5, 0.2 * 0.5 + 0.3 * 0.5
    predictions = predict(tmp_path, samples, shift=2.0)
    np.testing.assert_allclose(predictions.logits[1, 0], (plain + early + late) / 3, rtol=1e-5)


def test_frame_pooling_uses_the_frames_within_the_window(tmp_path: Path):
    samples = np.repeat([0.1, 0.2, 0.3, 0.4], 2 * RATE)
    samples[RATE * 5 // 2] = 5.0  # within the second window's last half second
    mean = predict(tmp_path, samples, window=2.0, frame_pooling="mean").logits[:, 0]
    np.testing.assert_allclose(mean[[0, 2, 3]], [0.1, 0.3, 0.4], atol=1e-3 + 5 / 4 / RATE)
    most = predict(tmp_path, samples, window=2.0, frame_pooling="max").logits[:, 0]
    assert most[1] > mean[1] + 1e-4 and most[3] == pytest.approx(0.4, rel=1e-5)


def test_a_window_shorter_than_a_frame_uses_the_nearest_frame():
    grid = WindowGrid(window=1, hop=1, context=100)
    assert frames_in_window(grid, 0, 4) == slice(1, 2) or frames_in_window(grid, 0, 4) == slice(
        2, 3
    )
    grid = WindowGrid(window=40, hop=40, context=80)
    assert frames_in_window(grid, 0, 8) == slice(2, 6)
    shifted = WindowGrid(window=40, hop=40, context=80, shifts=(0, -20, 20))
    # The second context starts earlier, so the window lies later in it.
    assert frames_in_window(shifted, 1, 8) == slice(4, 8)
    assert frames_in_window(shifted, 2, 8) == slice(0, 4)


def test_frame_pooling_of_a_head_without_frames_is_refused():
    clips = MeanEngine()
    clips.manifest = replace(clips.manifest, model=ModelSettings(head="gem"))
    with pytest.raises(ValueError, match="--frame-pooling max: model.head=gem has no frame logits"):
        RecordingPredictor([MeanEngine(), clips], PredictSettings(frame_pooling="max"))


def test_smoothing_is_a_weighted_mean_with_both_neighbours():
    score = np.array([[0.0], [4.0], [0.0], [8.0]], np.float32)
    np.testing.assert_allclose(smooth(score, 0.5)[:, 0], [1, 2, 3, 6])
    assert smooth(score, 0) is score
    constant = np.full((5, 3), 1.5, np.float32)
    np.testing.assert_array_equal(smooth(constant, 0.25), constant)


def test_models_are_aligned_by_code_and_combined_where_they_have_a_species():
    one, other = MeanEngine(("a", "b")).manifest, MeanEngine(("c", "b")).manifest
    labels = union_of_labels([one, other])
    assert labels.codes == ("a", "b", "c")
    logits_of = [(one.labels, [[1.0, 2.0]]), (other.labels, [[5.0, 4.0]])]

    def combine_both(combine: str) -> np.ndarray:
        models = [WindowLogits(own, labels) for own, _ in logits_of]
        for model, (_, logits) in zip(models, logits_of, strict=True):
            model.append(np.array(logits, np.float32))
        return combine_recording_logits(models, combine, 2)

    np.testing.assert_allclose(combine_both("logit"), [[1, 3, 5]])
    np.testing.assert_allclose(combine_both("rank"), [[[1, 2, np.nan], [np.nan, 4, 5]]])
    power = probability(combine_both("power"))
    b = np.sqrt((probability(2.0) ** 2 + probability(4.0) ** 2) / 2)
    np.testing.assert_allclose(power, [[probability(1.0), b, probability(5.0)]], rtol=1e-6)


def test_stored_logits_are_returned_in_order_and_freed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("birdmix.inference.window_logits._CHUNK_BYTES", 300 * 4 * 3)
    labels, came = Labels(("a", "b", "c")), np.arange(3 * 2000, dtype=np.float32).reshape(-1, 3)
    scores = WindowLogits(labels, labels)
    for some in np.split(came, [1, 70, 71, 500, 1999]):
        scores.append(some)
    pieces = list(scores.pop_chunks())
    assert max(map(len, pieces)) == 300 and not list(scores.pop_chunks())
    np.testing.assert_array_equal(np.concatenate(pieces), came)


def test_ranks_are_means_over_models_and_ties_share_their_rank(tmp_path: Path):
    first = np.array([[3.0], [1.0], [1.0], [2.0]], np.float32)
    second = np.array([[30.0], [10.0], [20.0], [40.0]], np.float32)
    ranks = Ranks(tmp_path, num_windows=4, num_models=2, num_classes=1)
    both = np.stack([first, second], axis=1)
    ranks.add(both[:1])
    ranks.add(both[1:])
    ranks.sort()
    expected = (np.array([3.5, 1, 1, 2.5]) + np.array([2.5, 0.5, 1.5, 3.5])) / 2 / 4
    np.testing.assert_allclose(probability(ranks.mean_over_models(both))[:, 0], expected, rtol=1e-5)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate on this system")
def test_a_disk_without_space_for_ranks_is_an_error_that_names_the_folder(tmp_path: Path):
    with pytest.raises(OSError, match=str(tmp_path)):
        Ranks(tmp_path, num_windows=1 << 40, num_models=2, num_classes=1 << 10)
    assert not list(tmp_path.iterdir())


def test_thresholds_of_several_models_are_averaged_in_logits():
    one = MeanEngine(("a", "b"), thresholds=(0.2, None)).manifest
    other = MeanEngine(("a", "c"), thresholds=(0.8, 0.3)).manifest
    labels = union_of_labels([one, other])
    np.testing.assert_allclose(mean_thresholds([one, other], labels), [0.5, np.nan, 0.3])
    assert mean_thresholds([MeanEngine().manifest], Labels(("mean", "peak"))) is None


def test_models_of_different_segment_lengths_need_a_window(tmp_path: Path):
    engines = [MeanEngine(), MeanEngine(seconds=2.0)]
    with pytest.raises(ValueError, match="2, 4 s: set the length of a window, --window 2"):
        RecordingPredictor(engines, PredictSettings())
    predictions = predict(tmp_path, np.full(8 * RATE, 0.5), engines, window=2.0)
    assert predictions.logits.shape == (4, 2) and predictions.logits[1, 0] == pytest.approx(0.5)


def test_models_of_two_sample_rates_keep_the_longest_seconds_and_each_warning_once(tmp_path: Path):
    file = tmp_path / "a.wav"
    write(file, np.zeros(20 * RATE))
    slow = MeanEngine()
    slow.manifest = replace(
        slow.manifest, log_mel=LogMelSettings(sample_rate=RATE // 2, f_max=200.0)
    )

    def cut_before_the_second_rate(seconds_of_both: float) -> None:
        if seconds_of_both == 10:
            os.truncate(file, file.stat().st_size // 2)

    with RecordingPredictor([MeanEngine(), slow], PredictSettings()) as predictor:
        predictions = predictor.predict(tmp_path, file.name, cut_before_the_second_rate)
    assert predictions.seconds == 20 and len(predictions.logits) == 3
    silent, truncated = predictions.warning.split("; ")
    assert silent == "silent" and truncated.startswith("truncated: ")


def test_a_context_shorter_than_the_window_is_refused():
    with pytest.raises(ValueError, match="--window 6: longer than the context of 4 s"):
        RecordingPredictor([MeanEngine()], PredictSettings(window=6.0))


def test_one_channel_of_several_can_be_predicted(tmp_path: Path):
    both = np.stack([np.full(4 * RATE, 0.1), np.full(4 * RATE, 0.3)], axis=1)
    assert predict(tmp_path, both).logits[0, 0] == pytest.approx(0.2)
    assert predict(tmp_path, both, channel=2).logits[0, 0] == pytest.approx(0.3)
    with pytest.raises(AudioError, match="has no channel 3, only 2"):
        predict(tmp_path, both, channel=3)


def test_predictions_of_a_recording_do_not_depend_on_other_recordings(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(RATE * (1 + 3 * number)))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    paths = [*(f"{number}.wav" for number in range(12)), "broken.wav", "absent.wav"]
    progress = Progress()
    with RecordingPredictor([MeanEngine()], PredictSettings(hop=1.0)) as predictor:
        together = list(predict_files(predictor, tmp_path, paths, progress=progress))
        alone = {path: predictor.predict(tmp_path, path) for path in paths[:12]}
    assert {each.path for each in together} == set(paths[:12])
    for each in together:
        np.testing.assert_array_equal(each.logits, alone[each.path].logits)
    assert [path for path, _ in progress.failed] == ["absent.wav", "broken.wav"]
    assert (progress.num_done, progress.num_files) == (14, 14)
    assert progress.audio_seconds == sum(1 + 3 * number for number in range(12))


def test_an_engine_is_called_by_at_most_its_number_of_threads(tmp_path: Path):
    class Counted(MeanEngine):
        input_key, calls, most = "its own", 0, 0

        def infer(self, inputs):
            self.calls += 1
            self.most = max(self.most, self.calls)
            time.sleep(0.001)
            self.calls -= 1
            return super().infer(inputs)

    one, many = Counted(), MeanEngine()
    one.num_threads, many.num_threads = 1, 4
    for number in range(4):
        write(tmp_path / f"{number}.wav", np.zeros(40 * RATE))
    with RecordingPredictor([many, one], PredictSettings(hop=1.0)) as predictor:
        assert len(list(predict_files(predictor, tmp_path, [f"{n}.wav" for n in range(4)]))) == 4
    assert one.most == 1


def test_progress_grows_while_a_recording_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Slow(MeanEngine):
        def infer(self, inputs):
            time.sleep(0.005)
            return super().infer(inputs)

    monkeypatch.setattr("birdmix.inference.predict_files._REPORT_EVERY", 0.01)
    write(tmp_path / "a.wav", np.zeros(400 * RATE))
    progress, reports = Progress(), []
    with RecordingPredictor([Slow()], PredictSettings()) as predictor:
        options = {
            "on_progress": lambda p: reports.append((p.bytes_done, p.audio_seconds)),
            "progress": progress,
        }
        assert len(list(predict_files(predictor, tmp_path, ["a.wav"], **options))) == 1
    assert reports == sorted(reports) and len(set(reports)) > 4
    assert reports[-1] == ((tmp_path / "a.wav").stat().st_size, 400)
    speed = progress.times_real_time
    time.sleep(0.01)
    assert progress.times_real_time == speed  # the time is no longer counted


def test_the_datetime_is_read_before_the_audio(tmp_path: Path):
    file = tmp_path / "20200504_053000.wav"
    write(file, np.zeros(20 * RATE))
    flac = tmp_path / "b.flac"
    with soundfile.SoundFile(flac, "w", RATE, 1) as sound:
        sound.comment = "Recorded at 05:30:00 04/05/2020 (UTC)"
        sound.write(np.zeros(20 * RATE))
    with RecordingPredictor([MeanEngine()], PredictSettings()) as predictor:
        named = predictor.predict(tmp_path, file.name).recorded_at
        tagged = predictor.predict(tmp_path, flac.name, lambda _: flac.unlink(missing_ok=True))
    assert named == datetime(2020, 5, 4, 5, 30)
    assert tagged.recorded_at == datetime(2020, 5, 4, 5, 30, tzinfo=UTC)


def test_a_request_above_the_memory_budget_waits_and_is_granted_alone():
    budget, order = MemoryBudget(10), []
    budget.acquire(4)
    large = threading.Thread(target=lambda: (budget.acquire(100), order.append("large")))
    large.start()
    small = threading.Thread(target=lambda: (budget.acquire(1), order.append("small")))
    while not budget._queue.locked():
        time.sleep(0.001)
    small.start()
    time.sleep(0.02)
    assert not order  # the small request would fit, but came later
    budget.release(4)
    large.join()
    time.sleep(0.02)
    assert order == ["large"]
    budget.release(100)
    small.join()
    assert order == ["large", "small"]


def test_a_folder_that_vanishes_ends_the_prediction(tmp_path: Path):
    folder = tmp_path / "card"
    for number in range(3):
        write(folder / f"{number}.wav", np.zeros(RATE))
    with RecordingPredictor([MeanEngine()], PredictSettings()) as predictor:
        running = predict_files(predictor, folder, [f"{n}.wav" for n in range(3)] * 40)
        next(running)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        with pytest.raises(ValueError, match="no longer exists; restore it"):
            list(running)


def test_an_error_of_the_engine_ends_the_prediction_and_its_threads(tmp_path: Path):
    class Broken(MeanEngine):
        def infer(self, inputs):
            raise RuntimeError("a bug")

    write(tmp_path / "a.wav", np.zeros(40 * RATE))
    with (
        RecordingPredictor([Broken()], PredictSettings()) as predictor,
        pytest.raises(RuntimeError),
    ):
        list(predict_files(predictor, tmp_path, ["a.wav"] * 20))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_file_that_shrinks_while_it_is_read_is_decoded_as_far_as_possible(
    tmp_path: Path, kind: str
):
    file = tmp_path / f"a.{kind}"
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 100)
    write_ogg(file, noise, 16_000) if kind == "ogg" else soundfile.write(file, noise, 16_000)
    blocks = DecodedBlocks(file, 16_000, block_seconds=5)
    decoded = []
    for number, block in enumerate(blocks):
        decoded.append(len(block))
        if number == 3:
            os.truncate(file, file.stat().st_size // 2)
    assert 20 * 16_000 <= sum(decoded) < 60 * 16_000
    assert [problem.name for problem in blocks.problems] in (["truncated"], ["header"])


@pytest.mark.parametrize("combine", ["logit", "rank"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_logits_fail_the_recording_and_infinite_ones_are_clipped(
    tmp_path: Path, combine: str, wrong: float
):
    class Broken(MeanEngine):
        """An engine whose logits of loud contexts are not finite."""

        def infer(self, inputs):
            clip, frames = super().infer(inputs)
            clip[clip[:, 1] > 0.5] = wrong, -wrong
            return EngineOutput(clip, frames)

    write(tmp_path / "good.wav", np.full(9 * RATE, 0.1))
    write(tmp_path / "bad.wav", np.repeat([0.1, 0.9], 4 * RATE))
    progress = Progress()
    settings = PredictSettings(combine=combine, shift=1.0)
    with RecordingPredictor([MeanEngine(), Broken()], settings) as predictor:
        paths = ["bad.wav", "good.wav"]
        found = {
            each.path: each for each in predict_files(predictor, tmp_path, paths, progress=progress)
        }
    if np.isnan(wrong):
        assert list(found) == ["good.wav"]
        reason = "its logits by bundle 2 of 2 (torch meter) are NaN"
        assert progress.failed == [("bad.wav", reason)]
    else:
        score = found["bad.wav"].logits[1].ravel()[-2:]
        assert np.isfinite(score).all() and score[0] > 1000 and score[1] < -1000


def test_doctor_and_prediction_report_the_same_problems_of_odd_files(
    tmp_path: Path, real_audio: Path
):
    """They agree on readability, length and problems, but for problems of the doctor alone."""
    folder = real_audio / "odd"
    names = find_recordings(folder)
    engine, progress = MeanEngine(), Progress()
    engine.manifest = replace(engine.manifest, log_mel=LogMelSettings(sample_rate=32_000))
    with RecordingPredictor([engine], PredictSettings()) as predictor:
        predictions = {
            each.path: each for each in predict_files(predictor, folder, names, progress=progress)
        }
    failed = dict(progress.failed)
    assert predictions.keys() | failed.keys() == set(names)
    for name in names:
        examination = examine_audio_file(folder / name)
        alone = ("extension", "rate", "channels")  # reported by the doctor only
        shared = [problem for problem in examination.problems if problem.name not in alone]
        if name in failed:
            assert {problem.name for problem in shared} <= {"unreadable", "empty"}, name
        else:
            assert predictions[name].warning == "; ".join(map(str, shared))
            assert predictions[name].seconds == pytest.approx(examination.seconds, abs=1e-4)
            info = read_audio_info(folder / name)
            if not any(problem.name == "header" for problem in shared):
                assert info.num_frames / info.sample_rate == pytest.approx(
                    examination.seconds, abs=1e-4
                )


def test_a_recording_of_two_samples_is_a_failure(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, 0.2]), 192_000)
    progress = Progress()
    with RecordingPredictor([MeanEngine()], PredictSettings()) as predictor:
        assert list(predict_files(predictor, tmp_path, ["a.wav"], progress=progress)) == []
    assert progress.failed == [("a.wav", "holds only 2 samples at 192000 Hz")]
