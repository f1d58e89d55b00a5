"""Options of `birdmix submit`: prediction, post-processing, time limits; and interruptions."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file, save_file
from scipy.stats import rankdata

from birdmix.competitions import BIRDCLEF_2022, BIRDCLEF_2023, BIRDCLEF_2026
from birdmix.engines.engine_interface import EngineOutput
from birdmix.engines.registry import open_engine
from birdmix.engines.torch_engine import TorchEngine
from birdmix.inference.predict_files import Progress
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.settings import PredictSettings
from birdmix.kaggle import deadline as deadline_module
from birdmix.kaggle.deadline import Deadline, OutOfTime
from birdmix.kaggle.fallback_plan import FallbackPlan, average_overlapping
from birdmix.kaggle.settings import DeadlineSettings
from birdmix.kaggle.submission_task import read_task
from birdmix.kaggle.submission_writer import SubmissionWriter
from birdmix.windows import logit, probability
from tests.conftest import ROOT
from tests.submissions import (
    Rows,
    assert_same_scores,
    predict_rows,
    read_valid_rows,
    scores_of,
    submit,
    submit_error,
    table,
)
from tests.years import Year, write_year

#: Probability in rows without prediction: two recordings of each of twelve species.
PRIOR = 3 / 36


pytestmark = pytest.mark.usefixtures("cached_bundles")


@pytest.fixture(scope="module")
def data(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Year:
    """A folder of 2026."""
    return write_year(demo, BIRDCLEF_2026, tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def default_rows(bundle: Path, data: Year) -> Rows:
    """The submission without any option."""
    submit(bundle, data.folder, data.folder.with_name("good.csv"))
    return read_valid_rows(data, data.folder.with_name("good.csv"))


@pytest.fixture(scope="module")
def other_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with other weights, and so other predictions."""
    folder = tmp_path_factory.mktemp("second") / "bundle"
    shutil.copytree(bundle, folder)
    weights = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(0)
    for name, weight in weights.items():
        if weight.ndim == 2:
            weights[name] = weight + rng.normal(0, 0.3, weight.shape).astype(weight.dtype)
    save_file(weights, folder / "model.safetensors")
    return folder


def cell_values(rows: Rows) -> np.ndarray:
    """Return the cells of rows in their order, float64 [N, C]."""
    return np.array([[float(cell) for cell in row.values()] for row in rows.values()])


def submit_and_read(bundle: Path, data: Year, out: Path, *options: str) -> np.ndarray:
    """Submit, and return the probabilities in the order of the requested rows."""
    submit(bundle, data.folder, out, *options)
    rows = read_valid_rows(data, out)
    return cell_values({row_id: rows[row_id] for row_id in data.row_ids})


def test_windows_that_overlap_a_row_are_averaged_with_the_overlap_as_weight(
    bundle: Path, demo: Path, data: Year, tmp_path: Path
):
    half = predict_rows(bundle, demo, tmp_path / "half", "--hop", "2.5")
    found = submit_and_read(bundle, data, tmp_path / "s.csv", "--hop", "2.5")
    for row_id, row in zip(data.row_ids, found, strict=True):
        name, end = row_id.rsplit("_", 1)
        total = weights = 0.0
        for later, weight in ((-2.5, 0.5), (0, 1), (2.5, 0.5)):
            if near := half.get(f"{name}_{int(end) + later:g}"):  # none before 0, none after 60 s
                total += weight * logit(np.array([float(near[code]) for code in data.codes]))
                weights += weight
        np.testing.assert_allclose(row, probability(total / weights), atol=2e-6)


def test_overlaps_of_long_recordings_are_averaged_as_those_of_short_ones():
    rng = np.random.default_rng(0)
    window_start, row_start = np.arange(0, 1795.5, 0.5), np.arange(0, 1800, 5.0)
    logits = rng.normal(size=(len(window_start), 3)).astype(np.float32)
    weight = np.maximum(5 - np.abs(row_start[:, None] - window_start), 0)
    expected = weight @ logits / weight.sum(axis=1, keepdims=True)
    averaged = average_overlapping(logits, window_start, row_start, window_seconds=5)
    np.testing.assert_allclose(averaged, expected, atol=1e-6)


def test_predictions_equal_those_of_predict_with_the_same_options(
    bundle: Path, demo: Path, data: Year, tmp_path: Path
):
    options = ("--shift", "1", "--context", "10")
    rows = predict_rows(bundle, demo, tmp_path / "predicted", *options)
    found = submit_and_read(bundle, data, tmp_path / "s.csv", *options)
    expected = [[float(rows[row_id][code]) for code in data.codes] for row_id in data.row_ids]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_smoothing_adds_a_share_of_neighbours_within_a_soundscape(
    bundle: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    found = submit_and_read(bundle, data, tmp_path / "s.csv", "--smoothing", "0.4")
    for start in (0, 12):  # each soundscape by itself; its first and last row repeat at the edges
        own = logit(cell_values(default_rows)[start : start + 12])
        around = own[[0, *range(12), 11]]
        expected = 0.6 * own + 0.2 * around[:-2] + 0.2 * around[2:]
        np.testing.assert_allclose(found[start : start + 12], probability(expected), atol=2e-6)


def test_file_scaling_multiplies_by_the_soundscapes_maximum_and_warns(
    bundle: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    found = submit_and_read(bundle, data, tmp_path / "s.csv", "--file-scaling", "2")
    for start in (0, 12):
        own = cell_values(default_rows)[start : start + 12]
        np.testing.assert_allclose(found[start : start + 12], own * own.max(axis=0) ** 2, atol=2e-6)
    output = submit(bundle, data.folder, tmp_path / "s.csv", "--file-scaling", "2")
    assert "warning: --file-scaling" in output


def test_priors_of_sites_and_hours_need_labelled_soundscapes(
    bundle: Path, demo: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    output = submit(bundle, data.folder, tmp_path / "s.csv", "--prior-weight", "1")
    assert "12 labelled windows" in output
    # The site is unknown, and the only known hour has the overall rate.
    assert read_valid_rows(data, tmp_path / "s.csv") == default_rows
    without = write_year(demo, BIRDCLEF_2023, tmp_path / "data")
    assert "label" in submit_error(
        bundle, without.folder, tmp_path / "s.csv", "--prior-weight", "1"
    )


def test_predictions_of_bundles_are_averaged(
    bundle: Path, other_bundle: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    one, two = cell_values(default_rows), submit_and_read(other_bundle, data, tmp_path / "two.csv")
    assert np.abs(one - two).max() > 0.01
    both = ("--bundle", str(other_bundle))
    by_logit = submit_and_read(bundle, data, tmp_path / "logit.csv", *both)
    np.testing.assert_allclose(by_logit, probability((logit(one) + logit(two)) / 2), atol=2e-6)
    by_power = submit_and_read(
        bundle, data, tmp_path / "power.csv", *both, "--combine", "power", "--power", "3"
    )
    np.testing.assert_allclose(by_power, ((one**3 + two**3) / 2) ** (1 / 3), atol=2e-6)
    by_rank = submit_and_read(bundle, data, tmp_path / "rank.csv", *both, "--combine", "rank")
    mean = sum(rankdata(each, axis=0) - 0.5 for each in (one, two)) / 24 / 2
    np.testing.assert_allclose(by_rank, mean, rtol=1e-6)


def test_decisions_by_rank_need_a_threshold(
    bundle: Path, other_bundle: Path, demo: Path, tmp_path: Path
):
    year = write_year(demo, BIRDCLEF_2022, tmp_path / "data")
    both = ("--bundle", str(other_bundle), "--combine", "rank")
    assert "threshold" in submit_error(bundle, year.folder, tmp_path / "s.csv", *both)
    submit(bundle, year.folder, tmp_path / "s.csv", *both, "--threshold", "0.5")
    called = [row["target"] for row in read_valid_rows(year, tmp_path / "s.csv").values()]
    assert 0.4 < called.count("True") / len(called) < 0.6


@pytest.mark.parametrize("value", [1000.0, -1000.0, math.inf, -math.inf])
def test_cells_lie_between_0_and_1_for_all_logits(
    value: float, bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def constant_logits(self: TorchEngine, log_mel: torch.Tensor) -> EngineOutput:
        return EngineOutput(np.full((len(log_mel), 12), value, np.float32))

    monkeypatch.setattr(TorchEngine, "infer", constant_logits)
    found = submit_and_read(bundle, data, tmp_path / "s.csv")
    expected = probability(np.array(value))
    np.testing.assert_allclose(found, np.full((24, 12), expected), rtol=1e-6)
    assert found.min() >= 1e-6 and found.max() <= 1 - 1e-6


def test_soundscapes_whose_logits_are_nan_keep_the_prior_and_are_named(
    bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def nan_logits(self: TorchEngine, log_mel: torch.Tensor) -> EngineOutput:
        is_silent = (log_mel == log_mel[:, :1, :1, :1]).flatten(1).all(dim=1)
        logits = np.where(is_silent.cpu().numpy()[:, None], 0, np.full(12, np.nan))
        return EngineOutput(logits.astype(np.float32))

    monkeypatch.setattr(TorchEngine, "infer", nan_logits)
    output = submit(bundle, data.folder, tmp_path / "s.csv", status=1)
    assert re.search(r"its logits by bundle 1 of 1 \(torch \w+\) are NaN; its rows", output)
    rows = read_valid_rows(data, tmp_path / "s.csv")
    cells = np.array([list(row.values()) for row in rows.values()], float)
    np.testing.assert_allclose(cells, PRIOR, rtol=1e-6)


# Time limits


def write_copies(data: Year, number: int, folder: Path) -> Year:
    """Write a folder with many copies of the first ten seconds of the first soundscape."""
    (folder / "test_soundscapes").mkdir(parents=True)
    for name in ("train.csv", "taxonomy.csv", "sample_submission.csv"):
        shutil.copy(data.folder / name, folder)
    samples, rate = soundfile.read(next(iter(data.soundscapes.values())), dtype="float32")
    soundfile.write(folder / "copied.wav", samples[: 10 * rate], rate, "FLOAT")
    names = [f"copy{n:04d}" for n in range(number)]
    soundscapes = {name: folder / "test_soundscapes" / f"{name}.wav" for name in names}
    for path in soundscapes.values():
        path.symlink_to(folder / "copied.wav")
    row_ids = tuple(f"{name}_{end}" for name in names for end in (5, 10))
    return Year(data.competition, folder, soundscapes, data.codes, row_ids)


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make the engine take this long for each window."""
    infer = TorchEngine.infer

    def infer_slowly(self: TorchEngine, log_mel: torch.Tensor) -> EngineOutput:
        time.sleep(seconds * len(log_mel))
        return infer(self, log_mel)

    monkeypatch.setattr(TorchEngine, "infer", infer_slowly)


def count_predicted(rows: Rows, default_rows: Rows) -> int:
    """Count the rows with predictions, which must equal those of the window in ``default_rows``.

    All others hold priors, which differ clearly.
    """
    expected = {
        row_id.rsplit("_", 1)[1]: row for row_id, row in default_rows.items() if "_0001_" in row_id
    }
    number = 0
    for row_id, row in rows.items():
        if scores_of(row) != pytest.approx([PRIOR] * 12):
            assert_same_scores(row, expected[row_id.rsplit("_", 1)[1]])
            number += 1
    return number


def test_soundscapes_after_the_time_limit_keep_priors_and_are_counted(
    bundle: Path, data: Year, default_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = write_copies(data, 100, tmp_path / "data")
    slow_down(monkeypatch, 0.02)
    monkeypatch.setattr(deadline_module, "_RESERVE_SECONDS", 9.0)
    started_at = time.monotonic()
    output = submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "10s")
    assert time.monotonic() - started_at < 10
    number = count_predicted(read_valid_rows(many, tmp_path / "s.csv"), default_rows)
    assert 0 < number < 200
    assert f"{number} predicted, {200 - number} with priors" in output
    assert f"{100 - number // 2} of 100 soundscapes keep the prior" in output


def test_a_sufficient_time_limit_is_reported(
    bundle: Path, data: Year, default_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = write_copies(data, 64, tmp_path / "data")  # more than are started at once on any machine
    monkeypatch.setattr(deadline_module, "_SPEED_KNOWN_AFTER", 0.0)  # a fast machine ends earlier
    slow_down(monkeypatch, 0.005)
    output = submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "10s", "--degrade")
    assert "in time" in output and "without" not in output
    assert count_predicted(read_valid_rows(many, tmp_path / "s.csv"), default_rows) == 128


SLOW_SETTINGS = PredictSettings(shift=1, hop=2.5)


def test_a_slow_plan_drops_shifts_then_overlap_then_bundles_from_the_last(
    bundle: Path, other_bundle: Path, data: Year, monkeypatch: pytest.MonkeyPatch
):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(deadline_module, "time", clock)
    engines = [open_engine(each) for each in (bundle, other_bundle, bundle)]
    plan = FallbackPlan(engines, SLOW_SETTINGS, read_task(data.folder))
    lines: list[str] = []
    deadline = Deadline(DeadlineSettings("1000s", degrade=True, started_at=0.0), plan, lines.append)
    progress = Progress(num_files=1000, num_bytes=1000)
    while clock.now < 980:
        clock.now += 10
        progress.bytes_ended += 1
        deadline(progress)
    plan.close()
    words = [re.findall(r"without (.*)|(no faster variant is left)", line)[0] for line in lines]
    assert ["".join(each) for each in words] == [
        "--shift",
        "--hop",
        "bundle 3",
        "bundle 2",
        "no faster variant is left",
    ]
    clock.now = 1000
    with pytest.raises(OutOfTime):
        deadline(progress)


def test_while_the_test_is_hidden_the_fallbacks_are_reported(
    bundle: Path, other_bundle: Path, demo: Path, tmp_path: Path
):
    year = write_year(demo, BIRDCLEF_2026, tmp_path / "data", hidden=False)
    slow = ("--bundle", str(other_bundle), "--shift", "1", "--time-limit", "10s", "--degrade")
    output = submit(bundle, year.folder, tmp_path / "s.csv", *slow)
    read_valid_rows(year, tmp_path / "s.csv")
    assert re.findall(r"too slow; --degrade continues without (--shift|bundle 2)", output) == [
        "--shift",
        "bundle 2",
    ]
    assert "of 10 s, too slow wrote" in output and "in time" not in output
    match = re.search(
        r"(\d+) x real time, 0 failed estimated .*: ([\d.]+) (s|min) of 10 s, too slow", output
    )
    assert match is not None  # both are of the last variant
    needed = float(match[2]) * (60 if match[3] == "min" else 1)
    assert needed == pytest.approx(36_000 / int(match[1]), rel=0.1)


@pytest.mark.slow
def test_the_last_variant_predicts_with_the_first_bundle_alone(
    bundle: Path, other_bundle: Path, data: Year, default_rows: Rows, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    many = write_copies(data, 1000, tmp_path / "data")
    slow_down(monkeypatch, 0.005)
    slow = ("--bundle", str(other_bundle), "--shift", "1", "--hop", "2.5", "--degrade")
    output = submit(bundle, many.folder, tmp_path / "s.csv", *slow, "--time-limit", "30s")
    assert re.findall(r"without (--\w+|bundle \d)", output) == ["--shift", "--hop", "bundle 2"]
    rows = read_valid_rows(many, tmp_path / "s.csv")
    last = {row_id: row for row_id, row in rows.items() if row_id >= "copy0100"}
    assert count_predicted(last, default_rows) > 100


# Interruptions


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_the_file_holds_the_predictions_so_far(
    number: int, bundle: Path, data: Year, default_rows: Rows, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    many = write_copies(data, 10, tmp_path / "data")
    add = SubmissionWriter.add

    def add_and_interrupt(self: SubmissionWriter, predictions: RecordingPredictions) -> None:
        add(self, predictions)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(SubmissionWriter, "add", add_and_interrupt)
    output = submit(bundle, many.folder, tmp_path / "s.csv", status=128 + number)
    assert "interrupted" in output
    assert 0 < count_predicted(read_valid_rows(many, tmp_path / "s.csv"), default_rows) < 20


KILLED = """
import os, signal, sys
from birdmix.cli.main import main
from birdmix.kaggle import submission_writer

submission_writer._MIN_WRITE_INTERVAL = submission_writer._WRITE_COST_FACTOR = 0
write, num_left = submission_writer.SubmissionWriter.write_file_now, int(sys.argv.pop())

def write_and_kill(self):
    global num_left
    write(self)
    num_left -= 1
    if not num_left:
        os.kill(os.getpid(), signal.SIGKILL)

submission_writer.SubmissionWriter.write_file_now = write_and_kill
main()
"""


@pytest.mark.parametrize(
    "writes", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_a_kill_at_any_moment_leaves_a_valid_file(
    writes: int, bundle: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    many, out = write_copies(data, 30, tmp_path / "data"), tmp_path / "s.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(many.folder), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", KILLED, *call, str(writes)], cwd=ROOT, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert count_predicted(read_valid_rows(many, out), default_rows) == 2 * (writes - 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_or_signal_from_outside_leaves_a_valid_file(
    number: int, bundle: Path, data: Year, default_rows: Rows, tmp_path: Path
):
    many, out = write_copies(data, 3000, tmp_path / "data"), tmp_path / "s.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(many.folder), "--out", str(out)]
    quick = "from birdmix.kaggle import submission_writer as d; d._MIN_WRITE_INTERVAL = 0.2; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{quick}from birdmix.cli.main import main; main()", *call], cwd=ROOT
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if out.exists() and count_predicted(table(out)[1], default_rows) > 120:
            break
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    assert count_predicted(read_valid_rows(many, out), default_rows) > 120


@pytest.mark.slow
def test_the_file_is_complete_before_the_time_limit(
    bundle: Path, data: Year, default_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = write_copies(data, 1000, tmp_path / "data")
    slow_down(monkeypatch, 0.05)
    started_at = time.monotonic()
    submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "60s")
    assert time.monotonic() - started_at < 60
    assert 100 < count_predicted(read_valid_rows(many, tmp_path / "s.csv"), default_rows) < 2000
