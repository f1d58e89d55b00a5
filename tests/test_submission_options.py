"""How a submission listens, how long it may take, and what stands when it is ended."""

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
from birdmix.inference.engine import Heard, open_engine
from birdmix.inference.listen import Listening
from birdmix.inference.settings import ListenSettings
from birdmix.inference.torch_engine import TorchEngine
from birdmix.kaggle import draft, pace
from birdmix.kaggle.ladder import Ladder, overlapping
from birdmix.kaggle.pace import OutOfTime, Pace
from birdmix.kaggle.settings import PaceSettings
from birdmix.kaggle.task import read_task
from birdmix.windows import WindowPredictions, logit, probability
from tests.conftest import ROOT
from tests.submissions import (
    Rows,
    assert_same_scores,
    predicted,
    refusal,
    scores_of,
    submit,
    table,
    validated,
)
from tests.years import Year, write_year

#: What a row says of which nothing was heard: two recordings of each of twelve species.
PRIOR = 3 / 36


pytestmark = pytest.mark.usefixtures("bundles_opened_once")


@pytest.fixture(scope="module")
def data(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Year:
    """A folder of 2026."""
    return write_year(demo, BIRDCLEF_2026, tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def good(bundle: Path, data: Year) -> Rows:
    """What is written without any option."""
    submit(bundle, data.folder, data.folder.with_name("good.csv"))
    return validated(data, data.folder.with_name("good.csv"))


@pytest.fixture(scope="module")
def second(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that says something else."""
    folder = tmp_path_factory.mktemp("second") / "bundle"
    shutil.copytree(bundle, folder)
    weights = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(0)
    for name, weight in weights.items():
        if weight.ndim == 2:
            weights[name] = weight + rng.normal(0, 0.3, weight.shape).astype(weight.dtype)
    save_file(weights, folder / "model.safetensors")
    return folder


def numbers(rows: Rows) -> np.ndarray:
    """Return the cells of rows in their order, float64 [N, C]."""
    return np.array([[float(cell) for cell in row.values()] for row in rows.values()])


def written(bundle: Path, data: Year, out: Path, *options: str) -> np.ndarray:
    """Submit, and return the probabilities in the order in which rows are asked for."""
    submit(bundle, data.folder, out, *options)
    rows = validated(data, out)
    return numbers({row_id: rows[row_id] for row_id in data.asked})


def test_overlapping_windows_are_averaged_by_how_much_they_overlap_a_row(
    bundle: Path, demo: Path, data: Year, tmp_path: Path
):
    half = predicted(bundle, demo, tmp_path / "half", "--step", "2.5")
    found = written(bundle, data, tmp_path / "s.csv", "--step", "2.5")
    for row_id, row in zip(data.asked, found, strict=True):
        name, end = row_id.rsplit("_", 1)
        total = weights = 0.0
        for later, weight in ((-2.5, 0.5), (0, 1), (2.5, 0.5)):
            if near := half.get(f"{name}_{int(end) + later:g}"):  # none before 0, none after 60 s
                total += weight * logit(np.array([float(near[code]) for code in data.codes]))
                weights += weight
        np.testing.assert_allclose(row, probability(total / weights), atol=2e-6)


def test_long_recordings_overlap_as_short_ones_do():
    rng = np.random.default_rng(0)
    heard_from, start = np.arange(0, 1795.5, 0.5), np.arange(0, 1800, 5.0)
    score = rng.normal(size=(len(heard_from), 3)).astype(np.float32)
    weight = np.maximum(5 - np.abs(start[:, None] - heard_from), 0)
    expected = weight @ score / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(overlapping(score, heard_from, start, 5), expected, atol=1e-6)


def test_what_is_heard_is_what_predict_hears(bundle: Path, demo: Path, data: Year, tmp_path: Path):
    options = ("--shift", "1", "--context", "10")
    heard = predicted(bundle, demo, tmp_path / "predicted", *options)
    found = written(bundle, data, tmp_path / "s.csv", *options)
    expected = [[float(heard[row_id][code]) for code in data.codes] for row_id in data.asked]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_smoothing_gives_neighbours_a_share_within_a_soundscape(
    bundle: Path, data: Year, good: Rows, tmp_path: Path
):
    found = written(bundle, data, tmp_path / "s.csv", "--smoothing", "0.4")
    for start in (0, 12):  # each soundscape alone; its ends are their own neighbours
        own = logit(numbers(good)[start : start + 12])
        around = own[[0, *range(12), 11]]
        expected = 0.6 * own + 0.2 * around[:-2] + 0.2 * around[2:]
        np.testing.assert_allclose(found[start : start + 12], probability(expected), atol=2e-6)


def test_file_scaling_multiplies_by_the_soundscapes_maximum_and_warns(
    bundle: Path, data: Year, good: Rows, tmp_path: Path
):
    found = written(bundle, data, tmp_path / "s.csv", "--file-scaling", "2")
    for start in (0, 12):
        own = numbers(good)[start : start + 12]
        np.testing.assert_allclose(found[start : start + 12], own * own.max(axis=0) ** 2, atol=2e-6)
    said = submit(bundle, data.folder, tmp_path / "s.csv", "--file-scaling", "2")
    assert "warning: --file-scaling" in said


def test_priors_of_sites_and_hours_need_labelled_soundscapes(
    bundle: Path, demo: Path, data: Year, good: Rows, tmp_path: Path
):
    said = submit(bundle, data.folder, tmp_path / "s.csv", "--prior-weight", "1")
    assert "12 labelled windows" in said
    assert validated(data, tmp_path / "s.csv") == good  # a site unknown, and the only hour known
    without = write_year(demo, BIRDCLEF_2023, tmp_path / "data")
    assert "label" in refusal(bundle, without.folder, tmp_path / "s.csv", "--prior-weight", "1")


def test_bundles_say_the_mean_of_what_each_says(
    bundle: Path, second: Path, data: Year, good: Rows, tmp_path: Path
):
    one, two = numbers(good), written(second, data, tmp_path / "two.csv")
    assert np.abs(one - two).max() > 0.01
    both = ("--bundle", str(second))
    by_logit = written(bundle, data, tmp_path / "logit.csv", *both)
    np.testing.assert_allclose(by_logit, probability((logit(one) + logit(two)) / 2), atol=2e-6)
    by_power = written(
        bundle, data, tmp_path / "power.csv", *both, "--combine", "power", "--power", "3"
    )
    np.testing.assert_allclose(by_power, ((one**3 + two**3) / 2) ** (1 / 3), atol=2e-6)
    by_rank = written(bundle, data, tmp_path / "rank.csv", *both, "--combine", "rank")
    mean = sum(rankdata(each, axis=0) - 0.5 for each in (one, two)) / 24 / 2
    np.testing.assert_allclose(by_rank, mean, rtol=1e-6)


def test_decisions_by_rank_need_a_threshold(bundle: Path, second: Path, demo: Path, tmp_path: Path):
    year = write_year(demo, BIRDCLEF_2022, tmp_path / "data")
    both = ("--bundle", str(second), "--combine", "rank")
    assert "threshold" in refusal(bundle, year.folder, tmp_path / "s.csv", *both)
    submit(bundle, year.folder, tmp_path / "s.csv", *both, "--threshold", "0.5")
    called = [row["target"] for row in validated(year, tmp_path / "s.csv").values()]
    assert 0.4 < called.count("True") / len(called) < 0.6


@pytest.mark.parametrize("logit_heard", [1000.0, -1000.0, math.inf, -math.inf])
def test_whatever_a_network_says_cells_lie_between_0_and_1(
    logit_heard: float, bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def said(self: TorchEngine, pictures: torch.Tensor) -> Heard:
        return Heard(np.full((len(pictures), 12), logit_heard, np.float32))

    monkeypatch.setattr(TorchEngine, "judge", said)
    found = written(bundle, data, tmp_path / "s.csv")
    share = probability(np.array(logit_heard))
    np.testing.assert_allclose(found, np.full((24, 12), share), rtol=1e-6)
    assert found.min() >= 1e-6 and found.max() <= 1 - 1e-6


def test_soundscapes_whose_logits_are_nan_keep_the_prior_and_are_named(
    bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def said(self: TorchEngine, pictures: torch.Tensor) -> Heard:
        is_silent = (pictures == pictures[:, :1, :1, :1]).flatten(1).all(dim=1)
        logits = np.where(is_silent.cpu().numpy()[:, None], 0, np.full(12, np.nan))
        return Heard(logits.astype(np.float32))

    monkeypatch.setattr(TorchEngine, "judge", said)
    told = submit(bundle, data.folder, tmp_path / "s.csv", status=1)
    assert re.search(r"bundle 1 of 1 \(torch \w+\) gives logits of it that are NaN; its rows", told)
    rows = validated(data, tmp_path / "s.csv")
    cells = np.array([list(row.values()) for row in rows.values()], float)
    np.testing.assert_allclose(cells, PRIOR, rtol=1e-6)


# Time


def copies(data: Year, number: int, folder: Path) -> Year:
    """A folder with the first ten seconds of the first soundscape many times over."""
    (folder / "test_soundscapes").mkdir(parents=True)
    for name in ("train.csv", "taxonomy.csv", "sample_submission.csv"):
        shutil.copy(data.folder / name, folder)
    samples, rate = soundfile.read(next(iter(data.soundscapes.values())), dtype="float32")
    soundfile.write(folder / "copied.wav", samples[: 10 * rate], rate, "FLOAT")
    names = [f"copy{n:04d}" for n in range(number)]
    soundscapes = {name: folder / "test_soundscapes" / f"{name}.wav" for name in names}
    for path in soundscapes.values():
        path.symlink_to(folder / "copied.wav")
    asked = tuple(f"{name}_{end}" for name in names for end in (5, 10))
    return Year(data.competition, folder, soundscapes, data.codes, asked)


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each window take so long to judge."""
    judge = TorchEngine.judge

    def slowly(self: TorchEngine, pictures: torch.Tensor) -> Heard:
        time.sleep(seconds * len(pictures))
        return judge(self, pictures)

    monkeypatch.setattr(TorchEngine, "judge", slowly)


def heard_rows(rows: Rows, good: Rows) -> int:
    """Count the rows that hold predictions, those of the same window in ``good``.

    All others hold priors, which are far from them.
    """
    right = {row_id.rsplit("_", 1)[1]: row for row_id, row in good.items() if "_0001_" in row_id}
    number = 0
    for row_id, row in rows.items():
        if scores_of(row) != pytest.approx([PRIOR] * 12):
            assert_same_scores(row, right[row_id.rsplit("_", 1)[1]])
            number += 1
    return number


def test_what_the_time_does_not_reach_keeps_priors_and_is_counted(
    bundle: Path, data: Year, good: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = copies(data, 100, tmp_path / "data")
    slow(monkeypatch, 0.02)
    monkeypatch.setattr(pace, "_KEPT_SECONDS", 9.0)
    began = time.monotonic()
    said = submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "10s")
    assert time.monotonic() - began < 10
    number = heard_rows(validated(many, tmp_path / "s.csv"), good)
    assert 0 < number < 200
    assert f"{number} heard, {200 - number} with the prior" in said
    assert f"{100 - number // 2} of 100 soundscapes keep the prior" in said


def test_where_there_is_time_it_says_so(
    bundle: Path, data: Year, good: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = copies(data, 64, tmp_path / "data")  # more than are begun at once on any machine
    monkeypatch.setattr(pace, "_BELIEVED_AFTER", 0.0)  # a fast machine is done before
    slow(monkeypatch, 0.005)
    said = submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "10s", "--degrade")
    assert "in time" in said and "without" not in said
    assert heard_rows(validated(many, tmp_path / "s.csv"), good) == 128


DEAR = ListenSettings(shift=1, step=2.5)


def test_too_slow_it_gives_up_shifts_then_overlap_then_bundles_from_the_last(
    bundle: Path, second: Path, data: Year, monkeypatch: pytest.MonkeyPatch
):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(pace, "time", clock)
    engines = [open_engine(each) for each in (bundle, second, bundle)]
    ladder = Ladder(engines, DEAR, read_task(data.folder))
    said: list[str] = []
    look = Pace(PaceSettings("1000s", degrade=True, began=0.0), ladder, said.append)
    books = Listening(num_files=1000, num_bytes=1000)
    while clock.now < 980:
        clock.now += 10
        books.bytes_ended += 1
        look(books)
    ladder.close()
    words = [re.findall(r"without (.*)|(nothing is left)", line)[0] for line in said]
    assert ["".join(each) for each in words] == [
        "--shift",
        "--step",
        "bundle 3",
        "bundle 2",
        "nothing is left",
    ]
    clock.now = 1000
    with pytest.raises(OutOfTime):
        look(books)


def test_while_the_test_is_hidden_it_tells_what_would_be_given_up(
    bundle: Path, second: Path, demo: Path, tmp_path: Path
):
    year = write_year(demo, BIRDCLEF_2026, tmp_path / "data", hidden=False)
    dear = ("--bundle", str(second), "--shift", "1", "--time-limit", "10s", "--degrade")
    said = submit(bundle, year.folder, tmp_path / "s.csv", *dear)
    validated(year, tmp_path / "s.csv")
    assert re.findall(r"too slow; --degrade goes on without (--shift|bundle 2)", said) == [
        "--shift",
        "bundle 2",
    ]
    assert "of 10 s: too slow wrote" in said and "in time" not in said
    told = re.search(
        r"(\d+) x real time, 0 failed the .* would take ([\d.]+) (s|min) of 10 s: too", said
    )
    assert told is not None  # both are of the rung that was heard last
    needed = float(told[2]) * (60 if told[3] == "min" else 1)
    assert needed == pytest.approx(36_000 / int(told[1]), rel=0.1)


@pytest.mark.slow
def test_given_up_to_the_last_it_says_what_the_first_bundle_says(
    bundle: Path, second: Path, data: Year, good: Rows, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    many = copies(data, 1000, tmp_path / "data")
    slow(monkeypatch, 0.005)
    dear = ("--bundle", str(second), "--shift", "1", "--step", "2.5", "--degrade")
    said = submit(bundle, many.folder, tmp_path / "s.csv", *dear, "--time-limit", "30s")
    assert re.findall(r"without (--\w+|bundle \d)", said) == ["--shift", "--step", "bundle 2"]
    rows = validated(many, tmp_path / "s.csv")
    last = {row_id: row for row_id, row in rows.items() if row_id >= "copy0100"}
    assert heard_rows(last, good) > 100


# Ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_what_was_heard(
    number: int, bundle: Path, data: Year, good: Rows, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    many = copies(data, 10, tmp_path / "data")
    add = draft.Draft.add

    def interrupted(self: draft.Draft, heard: WindowPredictions) -> None:
        add(self, heard)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(draft.Draft, "add", interrupted)
    said = submit(bundle, many.folder, tmp_path / "s.csv", status=128 + number)
    assert "interrupted" in said
    assert 0 < heard_rows(validated(many, tmp_path / "s.csv"), good) < 20


KILLED = """
import os, signal, sys
from birdmix.app.cli import main
from birdmix.kaggle import draft

draft._WRITE_EVERY = draft._WRITE_SHARE = 0
write, left = draft.Draft.write, int(sys.argv.pop())

def killed(self):
    global left
    write(self)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

draft.Draft.write = killed
main()
"""


@pytest.mark.parametrize(
    "writes", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_a_valid_file_stands(
    writes: int, bundle: Path, data: Year, good: Rows, tmp_path: Path
):
    many, out = copies(data, 30, tmp_path / "data"), tmp_path / "s.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(many.folder), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", KILLED, *call, str(writes)], cwd=ROOT, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert heard_rows(validated(many, out), good) == 2 * (writes - 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_from_outside_a_valid_file_stands(
    number: int, bundle: Path, data: Year, good: Rows, tmp_path: Path
):
    many, out = copies(data, 3000, tmp_path / "data"), tmp_path / "s.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(many.folder), "--out", str(out)]
    quick = "from birdmix.kaggle import draft as d; d._WRITE_EVERY = 0.2; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{quick}from birdmix.app.cli import main; main()", *call], cwd=ROOT
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if out.exists() and heard_rows(table(out)[1], good) > 120:
            break
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    assert heard_rows(validated(many, out), good) > 120


@pytest.mark.slow
def test_the_file_stands_before_the_limit(
    bundle: Path, data: Year, good: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = copies(data, 1000, tmp_path / "data")
    slow(monkeypatch, 0.05)
    began = time.monotonic()
    submit(bundle, many.folder, tmp_path / "s.csv", "--time-limit", "60s")
    assert time.monotonic() - began < 60
    assert 100 < heard_rows(validated(many, tmp_path / "s.csv"), good) < 2000
